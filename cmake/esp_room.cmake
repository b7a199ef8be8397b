# esp_room(NAME [DEPENDS rooms...] [LIBRARIES libs...])
#
# One library a room, room_<name>, of all c_src/<name>/*.cpp, that links only
# what it names; and one test binary, test_<name>, of test/<name>/*_test.cpp,
# that links the room and nothing above it: a call upward does not link.
#
# A room without sources is its headers. main.cpp and etf_verdict.cpp belong
# to executables (esp_targets.cmake). Tests that load plugins keep those in
# test/<name>/plugins/*.cpp, each built into a shared object whose folder the
# test knows as ESP_TEST_PLUGIN_DIR.

include(${CMAKE_CURRENT_LIST_DIR}/esp_plugin.cmake)

set(ESP_ROOMS "")

# Headers that dominate the build of a room; the others keep Boost out of their
# headers, and a precompiled one would cost more than it saves. Nothing of ours:
# `make headers` and `make rooms` must see what a file includes.
set(esp_pch_net <boost/asio.hpp>)

function(esp_room name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "DEPENDS;LIBRARIES")
  list(TRANSFORM arg_DEPENDS PREPEND room_)

  file(GLOB sources CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/c_src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/(main|etf_verdict)\\.cpp$")

  set(room room_${name})
  if(sources)
    set(scope PUBLIC)
    add_library(${room} STATIC ${sources})
    target_link_libraries(${room} PRIVATE esp_flags)
    if(ESP_PCH AND esp_pch_${name})
      target_precompile_headers(${room} PRIVATE ${esp_pch_${name}})
    endif()
  else()
    set(scope INTERFACE)
    add_library(${room} INTERFACE)
  endif()
  target_include_directories(${room} ${scope}
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/c_src)
  target_link_libraries(${room} ${scope} ${arg_DEPENDS} ${arg_LIBRARIES})

  set(ESP_ROOMS ${ESP_ROOMS} ${room} PARENT_SCOPE)
  if(ESP_TESTS)
    esp_room_test(${name})
  endif()
endfunction()

# Links rooms into `target` whole: what only a plugin calls would else be left
# out of the executable. Their objects are named one by one, and the archives
# that come with them are never opened.
function(esp_link_whole target)
  foreach(room IN LISTS ARGN)
    get_target_property(type ${room} TYPE)
    if(type STREQUAL STATIC_LIBRARY)
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${room}>)
    endif()
  endforeach()
  target_link_libraries(${target} PRIVATE ${ARGN})
endfunction()

# Exports from an executable what plugins use of it, and nothing else.
function(esp_export_api target)
  set(list ${PROJECT_SOURCE_DIR}/cmake/esp_exports.list)
  target_link_options(${target} PRIVATE LINKER:--dynamic-list=${list})
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${list})
endfunction()

function(esp_room_test name)
  file(GLOB sources CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/test/${name}/*_test.cpp)
  file(GLOB plugins CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/test/${name}/plugins/*.cpp)
  if(NOT sources)
    return()
  endif()

  set(test test_${name})
  if(NOT TARGET esp_doctest_main)
    add_library(esp_doctest_main OBJECT
      ${PROJECT_SOURCE_DIR}/test/support/doctest_main.cpp)
    target_link_libraries(esp_doctest_main PRIVATE esp_flags)
    target_include_directories(esp_doctest_main
      SYSTEM PUBLIC ${DOCTEST_INCLUDE_DIR})
  endif()
  add_executable(${test} ${sources})
  target_link_libraries(${test} PRIVATE esp_flags esp_doctest_main)
  target_include_directories(${test} PRIVATE ${PROJECT_SOURCE_DIR}/test)
  target_compile_definitions(${test} PRIVATE
    ESP_TEST_DATA_DIR="${PROJECT_SOURCE_DIR}/test/data"
    ESP_TEST_PLUGIN_DIR="${PROJECT_BINARY_DIR}/test/${name}/plugins")

  if(plugins)
    # What a plugin calls is in the host, and the host is the test here.
    esp_rooms_below(room_${name} below)
    esp_link_whole(${test} ${below})
    esp_export_api(${test})
    foreach(source IN LISTS plugins)
      cmake_path(GET source STEM plugin)
      esp_plugin_target(${test}_${plugin} ${plugin}
        ${PROJECT_BINARY_DIR}/test/${name}/plugins ${source})
      add_dependencies(${test} ${test}_${plugin})
    endforeach()
  else()
    target_link_libraries(${test} PRIVATE room_${name})
  endif()
  add_test(NAME ${name} COMMAND ${test})
  set_property(TEST ${name} PROPERTY TIMEOUT 600)
  set_property(GLOBAL APPEND PROPERTY ESP_TEST_TARGETS ${test})
endfunction()

# The room and those it stands on, whichever way they are named.
function(esp_rooms_below room out)
  set(found ${room})
  get_target_property(links ${room} INTERFACE_LINK_LIBRARIES)
  foreach(link IN LISTS links)
    if(link IN_LIST ESP_ROOMS)
      esp_rooms_below(${link} below)
      list(APPEND found ${below})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES found)
  set(${out} ${found} PARENT_SCOPE)
endfunction()
