# tc_least_architecture(<variable> <architectures>): the least number of a list such as CMake takes,
# with `native` as the cards that are here; 0 where it has none (`all`): the first kernel tells then.
function(tc_least_architecture variable architectures)
  string(REPLACE native "${CMAKE_CUDA_ARCHITECTURES_NATIVE}" numbers "${architectures}")
  list(TRANSFORM numbers REPLACE "[^0-9].*" "")
  list(FILTER numbers INCLUDE REGEX "^[0-9]+$")
  set(least 0)
  if(numbers)
    list(SORT numbers COMPARE NATURAL)
    list(GET numbers 0 least)
  endif()
  set(${variable} ${least} PARENT_SCOPE)
endfunction()
