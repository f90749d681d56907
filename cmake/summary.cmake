message(STATUS "Thermocline ${PROJECT_VERSION}")
message(STATUS "  build type  ${CMAKE_BUILD_TYPE}")
message(STATUS "  sanitizers  ${TC_SANITIZE}")
