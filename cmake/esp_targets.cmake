# What is made of the rooms: the C-node, the verdict program, plugins for the
# tests, fuzzers, benchmarks, and what gets installed.

include(GNUInstallDirs)

# ------------------------------------------------------------- executables

# The C-node. All of every room is in it, since a plugin may call any of the
# public interface, and that interface is all that it exports.
set(main ${PROJECT_SOURCE_DIR}/c_src/app/main.cpp)
file(GLOB have CONFIGURE_DEPENDS ${main})
if(have)
  add_executable(esp_node ${main})
  target_link_libraries(esp_node PRIVATE esp_flags ${CMAKE_DL_LIBS})
  esp_link_whole(esp_node ${ESP_ROOMS})
  esp_export_api(esp_node)
  set_target_properties(esp_node PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  install(TARGETS esp_node)
endif()

# Says of frames on stdin whether OTP 25's binary_to_term/1 takes them. For
# tests; not installed.
set(verdict ${PROJECT_SOURCE_DIR}/c_src/term/etf_verdict.cpp)
file(GLOB have CONFIGURE_DEPENDS ${verdict})
if(have)
  add_executable(etf_verdict ${verdict})
  target_link_libraries(etf_verdict PRIVATE esp_flags room_term)
  set_target_properties(etf_verdict PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endif()

# ------------------------------------------------------------------- tests

# Plugins that the Common Test suites load: test/plugins/<name>.cpp becomes
# plugins/<name>.so in the build folder, of whichever build is under test.
file(GLOB plugins CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/test/plugins/*.cpp)
add_custom_target(test_plugins)
foreach(source IN LISTS plugins)
  cmake_path(GET source STEM plugin)
  esp_plugin_target(plugin_${plugin} ${plugin}
    ${PROJECT_BINARY_DIR}/plugins ${source})
  set_property(TARGET plugin_${plugin} PROPERTY EXCLUDE_FROM_ALL ON)
  add_dependencies(test_plugins plugin_${plugin})
endforeach()
# In a folder of test/plugins: other images of the same names, and such as must
# not be loaded.
file(GLOB plugins CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/test/plugins/*/*.cpp)
foreach(source IN LISTS plugins)
  cmake_path(GET source STEM plugin)
  cmake_path(GET source PARENT_PATH folder)
  cmake_path(GET folder FILENAME folder)
  esp_plugin_target(plugin_${folder}_${plugin} ${plugin}
    ${PROJECT_BINARY_DIR}/plugins/${folder} ${source})
  set_property(TARGET plugin_${folder}_${plugin} PROPERTY EXCLUDE_FROM_ALL ON)
  add_dependencies(test_plugins plugin_${folder}_${plugin})
endforeach()

if(ESP_TESTS)
  get_property(tests GLOBAL PROPERTY ESP_TEST_TARGETS)
  add_custom_target(test_all)
  if(tests)
    add_dependencies(test_all ${tests})
  endif()

  # Every header compiles alone: a source for each that includes it and
  # nothing else, without precompiled headers.
  file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
    ${PROJECT_SOURCE_DIR}/include/esp/*.hpp
    ${PROJECT_SOURCE_DIR}/include/esp/*/*.hpp
    ${PROJECT_SOURCE_DIR}/c_src/*/*.hpp
    ${PROJECT_SOURCE_DIR}/test/support/*.hpp)
  set(alone "")
  foreach(header IN LISTS headers)
    string(REGEX REPLACE "^(include|c_src|test)/" "" spelled ${header})
    string(MAKE_C_IDENTIFIER ${header} file)
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/headers/${file}.cpp
      CONTENT "#include \"${spelled}\"\n#include \"${spelled}\"\n")
    list(APPEND alone ${PROJECT_BINARY_DIR}/headers/${file}.cpp)
  endforeach()
  add_library(headers OBJECT EXCLUDE_FROM_ALL ${alone})
  target_link_libraries(headers PRIVATE esp_flags ${ESP_ROOMS})
  target_compile_options(headers PRIVATE -O0 -g0)
  target_include_directories(headers PRIVATE ${PROJECT_SOURCE_DIR}/test)
  target_include_directories(headers SYSTEM PRIVATE ${DOCTEST_INCLUDE_DIR})
  list(LENGTH headers count)
  file(WRITE ${PROJECT_BINARY_DIR}/headers/count "${count}\n")
endif()

# ----------------------------------------------------------------- fuzzers

# One binary a file, of the rooms that know bytes and no sockets. epmd's codec
# stands among sources that do, so its fuzzers take that one source.
if(ESP_FUZZ)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/test/fuzz/*.cpp)
  add_custom_target(fuzzers)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM fuzzer)
    add_executable(fuzz_${fuzzer} ${source})
    target_link_libraries(fuzz_${fuzzer} PRIVATE
      esp_flags room_match room_dist room_term room_base)
    if(fuzzer MATCHES "^epmd_")
      target_sources(fuzz_${fuzzer} PRIVATE
        ${PROJECT_SOURCE_DIR}/c_src/epmd/codec.cpp)
    endif()
    target_link_options(fuzz_${fuzzer} PRIVATE -fsanitize=fuzzer)
    set_target_properties(fuzz_${fuzzer} PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
    add_dependencies(fuzzers fuzz_${fuzzer})
  endforeach()
endif()

# -------------------------------------------------------------- benchmarks

if(ESP_BENCH)
  add_custom_target(benches)
  function(esp_bench name source)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE
      esp_flags benchmark::benchmark ${CMAKE_DL_LIBS})
    esp_link_whole(${name} ${ARGN})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/test)
    target_compile_definitions(${name} PRIVATE
      ESP_BENCH_DIR="${PROJECT_BINARY_DIR}/bench")
    esp_export_api(${name})
    set_target_properties(${name} PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
    add_dependencies(benches ${name})
  endfunction()
  set(engine ${PROJECT_SOURCE_DIR}/bench/engine_bench.cpp)
  esp_bench(engine_bench ${engine} ${ESP_ROOMS})
  # The same without the tests for tracing, to see what they cost.
  esp_bench(engine_bench_untraced ${engine} room_base room_term room_backtrace
    room_match room_dist room_sched room_net room_epmd room_plugin)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/c_src/node/*.cpp
    ${PROJECT_SOURCE_DIR}/c_src/otp/*.cpp ${PROJECT_SOURCE_DIR}/c_src/coop/*.cpp)
  target_sources(engine_bench_untraced PRIVATE ${sources})
  target_compile_definitions(engine_bench_untraced PRIVATE ESP_WITHOUT_TRACING)
  # bench/run.sh measures whole C-nodes with these loaded.
  file(GLOB plugins CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/plugins/*.cpp)
  foreach(source IN LISTS plugins)
    cmake_path(GET source STEM plugin)
    esp_plugin_target(bench_plugin_${plugin} ${plugin}
      ${PROJECT_BINARY_DIR}/bench ${source})
    add_dependencies(benches bench_plugin_${plugin})
  endforeach()
endif()

# ------------------------------------------------------------ installation

# The package config lies in the sources too, in this very folder, where a
# project finds it that has us as a dependency or a checkout.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/erlangsp)
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/erlangspConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/esp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(FILES
  ${PROJECT_SOURCE_DIR}/cmake/erlangspConfig.cmake
  ${PROJECT_SOURCE_DIR}/cmake/esp_plugin.cmake
  ${PROJECT_SOURCE_DIR}/cmake/esp_plugin.map
  ${PROJECT_BINARY_DIR}/erlangspConfigVersion.cmake
  DESTINATION ${package})
