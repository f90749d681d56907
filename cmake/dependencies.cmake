# Libraries that more than one folder's CMakeLists.txt asks for. A library that only one folder may
# include is found in that folder.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
