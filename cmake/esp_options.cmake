# What every target of ours is compiled with, and what it may link: language
# level, warnings, sanitizers, third-party libraries. Options come from
# CMakePresets.json; nothing is fetched.

include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)
include(CheckPIESupported)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

option(BUILD_TESTING "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(ESP_TESTS "Build one test binary a room" ${BUILD_TESTING})
option(ESP_BENCH "Build bench/" OFF)
option(ESP_FUZZ "Build test/fuzz/*.cpp (clang)" OFF)
option(ESP_PCH "Precompile the headers of the heavy rooms" ON)
option(ESP_WERROR "Warnings are errors" "$ENV{CI}")
# The engine goes into an executable; the rooms that a shared object can hold
# (base, term, plugin) become position independent where one is built.
option(ESP_PIC "Position independent code" OFF)
set(ESP_SANITIZE "" CACHE STRING "As given to -fsanitize=")
set(ESP_BOOST_SOURCE "" CACHE PATH
  "What tools/boost-source has made: build Boost.Fiber from it, sanitized")
set(CMAKE_POSITION_INDEPENDENT_CODE ${ESP_PIC})

# ---------------------------------------------------------------- compiler

# Flags of our own targets, carried by this one so that they do not leak into
# a project that includes us.
add_library(esp_flags INTERFACE)
target_compile_options(esp_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion
  $<$<BOOL:${ESP_WERROR}>:-Werror>
  # What GCC 12's optimiser suspects of std::optional and std::vector is advice:
  # it differs from level to level, and is wrong as often as not. A plugin of
  # the tests overflows its stack on purpose.
  $<$<AND:$<BOOL:${ESP_WERROR}>,$<CXX_COMPILER_ID:GNU>>:
    -Wno-error=maybe-uninitialized -Wno-error=array-bounds
    -Wno-error=stringop-overflow -Wno-error=stringop-overread
    -Wno-error=restrict -Wno-error=infinite-recursion>
  # Debian's compilers default to PIE, which the executables are welcome to.
  $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
if(ESP_SANITIZE)
  target_compile_options(esp_flags INTERFACE
    -fsanitize=${ESP_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  if(ESP_SANITIZE STREQUAL "thread")
    # Of fences. What ours order, atomics hand over.
    target_compile_options(esp_flags INTERFACE
      $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  endif()
  target_link_options(esp_flags INTERFACE -fsanitize=${ESP_SANITIZE})
  # The rooms size their stacks by this: sanitized frames are larger.
  target_compile_definitions(esp_flags INTERFACE ESP_SANITIZED=1)
endif()

# ccache is used where it is installed. Its own default refuses precompiled
# headers, hence the sloppiness.
if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(ESP_CCACHE ccache)
  mark_as_advanced(ESP_CCACHE)
  if(ESP_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros ${ESP_CCACHE})
  endif()
endif()

# ------------------------------------------------------------ dependencies

# What is missing is gathered and named in one message, each with the Debian
# package that brings it.
set(esp_missing "")
set(esp_packages "")
macro(esp_miss what package)
  string(APPEND esp_missing "  ${what}: ${package}\n")
  list(APPEND esp_packages ${package})
endmacro()

# Boost: headers, and static libraries so that a minimal Debian runs what we
# build. The unversioned Debian packages are 1.74, which is too old.
set(Boost_USE_STATIC_LIBS ON)
set(Boost_NO_WARN_NEW_VERSIONS ON)
find_package(boost_headers 1.81 CONFIG QUIET)
if(NOT boost_headers_FOUND)
  esp_miss("Boost >= 1.81 headers" libboost1.81-dev)
endif()
set(esp_boost_parts context fiber program_options)
if(ESP_BOOST_SOURCE)
  set(esp_boost_parts program_options)
endif()
foreach(part IN LISTS esp_boost_parts)
  find_package(boost_${part} 1.81 CONFIG QUIET)
  if(NOT boost_${part}_FOUND)
    string(REPLACE "_" "-" package libboost-${part}1.81-dev)
    esp_miss("static libboost_${part} >= 1.81" ${package})
  endif()
endforeach()

# libei comes with Erlang, not always in a place compilers look; libei.a is
# the thread-safe archive (libei_st.a the other).
find_path(EI_INCLUDE_DIR ei.h)
find_library(EI_LIBRARY NAMES libei.a)
if(NOT EI_INCLUDE_DIR OR NOT EI_LIBRARY)
  find_program(ESP_ERL erl)
  mark_as_advanced(ESP_ERL)
  if(ESP_ERL)
    execute_process(
      COMMAND ${ESP_ERL} -noshell -eval
        "io:put_chars(code:lib_dir(erl_interface)), halt()."
      OUTPUT_VARIABLE ei_dir ERROR_QUIET RESULT_VARIABLE ei_status)
    if(ei_status EQUAL 0)
      find_path(EI_INCLUDE_DIR ei.h HINTS ${ei_dir}/include)
      find_library(EI_LIBRARY NAMES libei.a HINTS ${ei_dir}/lib)
    endif()
  endif()
endif()
if(NOT EI_INCLUDE_DIR OR NOT EI_LIBRARY)
  esp_miss("ei.h and libei.a" erlang-dev)
endif()
mark_as_advanced(EI_INCLUDE_DIR EI_LIBRARY)

# zlib: from the archive if there is one.
find_path(ZLIB_INCLUDE_DIR zlib.h)
find_library(ZLIB_LIBRARY NAMES libz.a z)
if(NOT ZLIB_INCLUDE_DIR OR NOT ZLIB_LIBRARY)
  esp_miss("zlib.h and libz" zlib1g-dev)
endif()
mark_as_advanced(ZLIB_INCLUDE_DIR ZLIB_LIBRARY)

# elfutils' libdw: the archives, for the reason Boost's are. Of libdw only what
# reads DWARF is used, which needs libelf and zlib. Those of Debian 13 and later
# lack a part of themselves (eu_tsearch): there it is the shared libraries.
find_path(LIBDW_INCLUDE_DIR elfutils/libdw.h)
find_library(LIBDW_LIBRARY NAMES libdw.a)
find_library(LIBELF_LIBRARY NAMES libelf.a)
if(NOT LIBDW_INCLUDE_DIR OR NOT LIBDW_LIBRARY OR NOT LIBELF_LIBRARY)
  esp_miss("elfutils/libdw.h, libdw.a and libelf.a" libdw-dev)
else()
  set(CMAKE_REQUIRED_INCLUDES ${LIBDW_INCLUDE_DIR})
  set(CMAKE_REQUIRED_LIBRARIES
    ${LIBDW_LIBRARY} ${LIBELF_LIBRARY} ${ZLIB_LIBRARY})
  check_cxx_source_compiles([[
    #include <elfutils/libdw.h>
    int main() {
      return dwarf_begin(0, DWARF_C_READ) != nullptr
             && dwarf_getsrclines(nullptr, nullptr, nullptr) == 0;
    }]] ESP_HAS_WHOLE_LIBDW)
  unset(CMAKE_REQUIRED_INCLUDES)
  unset(CMAKE_REQUIRED_LIBRARIES)
  if(NOT ESP_HAS_WHOLE_LIBDW)
    find_library(LIBDW_SHARED_LIBRARY NAMES dw)
    find_library(LIBELF_SHARED_LIBRARY NAMES elf)
    if(NOT LIBDW_SHARED_LIBRARY OR NOT LIBELF_SHARED_LIBRARY)
      esp_miss("libdw.so and libelf.so" libdw-dev)
    endif()
    set(LIBDW_LIBRARY ${LIBDW_SHARED_LIBRARY})
    set(LIBELF_LIBRARY ${LIBELF_SHARED_LIBRARY})
  endif()
endif()
mark_as_advanced(LIBDW_INCLUDE_DIR LIBDW_LIBRARY LIBELF_LIBRARY
  LIBDW_SHARED_LIBRARY LIBELF_SHARED_LIBRARY)

if(ESP_TESTS)
  find_path(DOCTEST_INCLUDE_DIR doctest/doctest.h)
  mark_as_advanced(DOCTEST_INCLUDE_DIR)
  if(NOT DOCTEST_INCLUDE_DIR)
    esp_miss("doctest/doctest.h" doctest-dev)
  endif()
endif()
if(ESP_BENCH)
  find_package(benchmark CONFIG QUIET)
  if(NOT benchmark_FOUND)
    esp_miss("benchmark/benchmark.h" libbenchmark-dev)
  endif()
endif()
if(ESP_FUZZ)
  set(CMAKE_REQUIRED_LINK_OPTIONS -fsanitize=fuzzer)
  set(CMAKE_REQUIRED_FLAGS -fsanitize=fuzzer-no-link)
  check_cxx_source_compiles([[
    extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) {
      return 0;
    }]] ESP_HAS_LIBFUZZER)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  unset(CMAKE_REQUIRED_FLAGS)
  if(NOT ESP_HAS_LIBFUZZER)
    esp_miss("clang's libFuzzer" libclang-rt-14-dev)
  endif()
endif()

if(esp_missing)
  list(REMOVE_DUPLICATES esp_packages)
  list(JOIN esp_packages " " esp_packages)
  message(FATAL_ERROR
    "erlangsp cannot be built yet. What is missing, and the package that "
    "brings it in Debian 12 (tools/install-deps knows the others' names):\n"
    "${esp_missing}As root: apt-get install ${esp_packages}")
endif()

find_package(Threads REQUIRED)

# ------------------------------------------------- libraries as rooms name them

add_library(ei INTERFACE IMPORTED GLOBAL)
target_include_directories(ei SYSTEM INTERFACE ${EI_INCLUDE_DIR})
# Without threads libei's error number is undefined.
target_link_libraries(ei INTERFACE ${EI_LIBRARY} Threads::Threads)

add_library(ZLIB::ZLIB UNKNOWN IMPORTED GLOBAL)
set_target_properties(ZLIB::ZLIB PROPERTIES
  IMPORTED_LOCATION ${ZLIB_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${ZLIB_INCLUDE_DIR})

# Imported one by one: the linker wants archives before those they need.
add_library(esp_libelf UNKNOWN IMPORTED GLOBAL)
set_target_properties(esp_libelf PROPERTIES
  IMPORTED_LOCATION ${LIBELF_LIBRARY}
  INTERFACE_LINK_LIBRARIES ZLIB::ZLIB)
add_library(esp_libdw UNKNOWN IMPORTED GLOBAL)
set_target_properties(esp_libdw PROPERTIES
  IMPORTED_LOCATION ${LIBDW_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${LIBDW_INCLUDE_DIR}
  INTERFACE_LINK_LIBRARIES "esp_libelf;${CMAKE_DL_LIBS}")

add_library(esp_fiber INTERFACE)
if(ESP_BOOST_SOURCE)
  # ThreadSanitizer has to be told of each switch of fibers. Boost.Context does
  # that over ucontext only, which Debian's libraries are not built for.
  file(GLOB esp_boost_sources
    ${ESP_BOOST_SOURCE}/libs/context/src/continuation.cpp
    ${ESP_BOOST_SOURCE}/libs/context/src/fiber.cpp
    ${ESP_BOOST_SOURCE}/libs/context/src/posix/stack_traits.cpp
    ${ESP_BOOST_SOURCE}/libs/fiber/src/*.cpp
    ${ESP_BOOST_SOURCE}/libs/fiber/src/algo/*.cpp)
  add_library(esp_boost_fiber STATIC ${esp_boost_sources})
  target_compile_definitions(esp_boost_fiber
    PUBLIC BOOST_USE_UCONTEXT BOOST_USE_TSAN
    PRIVATE BOOST_CONTEXT_SOURCE BOOST_FIBERS_SOURCE
    # scheduler::wait_until() asserts something that another thread may be
    # changing, rightly: a waiter can be woken before it sleeps.
    BOOST_DISABLE_ASSERTS)
  target_compile_options(esp_boost_fiber PRIVATE -fsanitize=${ESP_SANITIZE})
  target_link_libraries(esp_boost_fiber PUBLIC Boost::headers Threads::Threads)
  target_link_libraries(esp_fiber INTERFACE esp_boost_fiber)
else()
  target_link_libraries(esp_fiber INTERFACE Boost::fiber Boost::context
    Threads::Threads)
endif()

add_library(esp_asio INTERFACE)
target_compile_definitions(esp_asio INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_NO_TS_EXECUTORS)
if(ESP_SANITIZE STREQUAL "thread")
  # Fences, which ThreadSanitizer does not know, around what Asio's locks order.
  target_compile_definitions(esp_asio INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
target_link_libraries(esp_asio INTERFACE Boost::headers Threads::Threads)

add_library(esp_program_options INTERFACE)
target_link_libraries(esp_program_options INTERFACE Boost::program_options)
