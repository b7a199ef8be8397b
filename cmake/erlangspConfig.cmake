# find_package(erlangsp) and one line make a plugin:
#
#   find_package(erlangsp REQUIRED
#     HINTS $ENV{REBAR_DEPS_DIR} $ENV{REBAR_CHECKOUTS_DIR})
#   esp_add_plugin(hello hello.cpp)
#
# The hints are where rebar3 keeps us as a dependency or as a checkout; an
# installed package is found without them.

cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/esp_plugin.cmake)

if(NOT TARGET erlangsp::headers)
  find_path(erlangsp_INCLUDE_DIR esp/term.hpp
    PATHS ${CMAKE_CURRENT_LIST_DIR}/../include
          ${CMAKE_CURRENT_LIST_DIR}/../../../include
          ${CMAKE_CURRENT_LIST_DIR}/../../../../include
    NO_DEFAULT_PATH)
  mark_as_advanced(erlangsp_INCLUDE_DIR)
  if(NOT erlangsp_INCLUDE_DIR)
    set(erlangsp_FOUND FALSE)
    set(erlangsp_NOT_FOUND_MESSAGE
      "esp/term.hpp is not beside ${CMAKE_CURRENT_LIST_DIR}")
    return()
  endif()
  add_library(erlangsp::headers INTERFACE IMPORTED)
  target_include_directories(erlangsp::headers SYSTEM
    INTERFACE ${erlangsp_INCLUDE_DIR})
  target_compile_features(erlangsp::headers INTERFACE cxx_std_20)
endif()

# esp_add_plugin(name sources... [OUTPUT folder]): name.so in the priv folder
# of the application that these sources belong to, the nearest folder upward
# with a rebar.config or a src/*.app.src, or in `folder`.
function(esp_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT" "")
  if(NOT arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "esp_add_plugin(${name}): no sources")
  endif()
  if(NOT arg_OUTPUT)
    esp_priv_folder(arg_OUTPUT)
  endif()
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
  endif()
  esp_plugin_target(${name} ${name} ${arg_OUTPUT} ${arg_UNPARSED_ARGUMENTS})
endfunction()

function(esp_priv_folder out)
  if(DEFINED ENV{REBAR_BARE_COMPILER_OUTPUT_DIR})
    set(${out} $ENV{REBAR_BARE_COMPILER_OUTPUT_DIR}/priv PARENT_SCOPE)
    return()
  endif()
  set(folder ${CMAKE_CURRENT_SOURCE_DIR})
  while(TRUE)
    file(GLOB marks ${folder}/rebar.config ${folder}/src/*.app.src)
    if(marks)
      set(${out} ${folder}/priv PARENT_SCOPE)
      return()
    endif()
    cmake_path(GET folder PARENT_PATH above)
    if(above STREQUAL folder)
      set(${out} ${CMAKE_CURRENT_BINARY_DIR} PARENT_SCOPE)
      return()
    endif()
    set(folder ${above})
  endwhile()
endfunction()
