# How a plugin is compiled, for our own tests and for users alike: C++20,
# nothing exported but its entry, nothing linked (all it calls is in the host
# that loads it), every symbol bound when it is loaded, because the first call
# through a lazy binding needs 9 KiB of a fiber's stack.

# Target `target`: the shared object <folder>/<name>.so.
function(esp_plugin_target target name folder)
  add_library(${target} MODULE ${ARGN})
  set_target_properties(${target} PROPERTIES
    PREFIX "" SUFFIX ".so" OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${folder}
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  if(TARGET esp_flags)
    # In our own build: the same warnings, and sanitizers as the host has.
    target_link_libraries(${target} PRIVATE esp_flags)
    target_include_directories(${target} PRIVATE
      ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../include)
  else()
    target_link_libraries(${target} PRIVATE erlangsp::headers)
  endif()
  # Unique symbols would be shared by two versions of a plugin, and would keep
  # the old one mapped for good. clang has no such symbols and no such flag.
  target_compile_options(${target} PRIVATE
    $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
  set(map ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/esp_plugin.map)
  target_link_options(${target} PRIVATE
    LINKER:-z,now LINKER:--version-script=${map})
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map})
endfunction()
