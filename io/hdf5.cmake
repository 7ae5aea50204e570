# Defines the target parallel_hdf5: the library with which ranks write one file together. Debian has it under a pkg-config name of
# its own, beside a serial one; elsewhere CMake's module asks the compiler wrapper h5pcc. HDF5_ROOT (or HDF5_DIR, in the
# environment, as environment modules set them) or HDF5_C_COMPILER_EXECUTABLE name one in another place.

string(CONCAT HDF5_ADVICE "Install the parallel one (libhdf5-openmpi-dev of Debian, hdf5+mpi of Spack, HDF5 of EasyBuild's "
       "gompi), or load its environment module. Where it is not found by itself: -DHDF5_ROOT=FOLDER, or "
       "-DHDF5_C_COMPILER_EXECUTABLE=.../h5pcc")

if(NOT DEFINED HDF5_ROOT AND NOT DEFINED ENV{HDF5_ROOT} AND DEFINED ENV{HDF5_DIR})
  set(HDF5_ROOT $ENV{HDF5_DIR})
endif()
if(NOT (DEFINED HDF5_ROOT OR DEFINED ENV{HDF5_ROOT} OR DEFINED HDF5_C_COMPILER_EXECUTABLE OR DEFINED HDF5_DIR))
  pkg_check_modules(HDF5_OPENMPI QUIET IMPORTED_TARGET hdf5-openmpi)
endif()
add_library(parallel_hdf5 INTERFACE)
if(HDF5_OPENMPI_FOUND)
  target_link_libraries(parallel_hdf5 INTERFACE PkgConfig::HDF5_OPENMPI)
else()
  set(HDF5_PREFER_PARALLEL ON)
  find_package(HDF5 COMPONENTS C)
  if(NOT HDF5_FOUND)
    message(FATAL_ERROR "HDF5 is not here. ${HDF5_ADVICE}")
  elseif(NOT HDF5_IS_PARALLEL)
    message(FATAL_ERROR "The HDF5 ${HDF5_VERSION} in ${HDF5_C_INCLUDE_DIRS} is serial: ranks cannot write a checkpoint "
                        "together with it. ${HDF5_ADVICE}")
  endif()
  target_include_directories(parallel_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
  target_compile_definitions(parallel_hdf5 INTERFACE ${HDF5_C_DEFINITIONS})
  target_link_libraries(parallel_hdf5 INTERFACE ${HDF5_C_LIBRARIES} MPI::MPI_C)
endif()
