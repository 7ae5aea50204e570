# `cmake --install build --prefix PREFIX`: PREFIX/bin/cairn, the scripts for Slurm and the configurations in
# PREFIX/share/cairn, man page, bash completion, and an environment module. The scripts learn the prefix when they are
# installed; the module finds itself, so a tree that is moved afterwards works through it.

set_target_properties(cairn PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS cairn RUNTIME DESTINATION bin)
install(DIRECTORY configs DESTINATION share/cairn FILES_MATCHING PATTERN *.yaml)
install(FILES LICENSE DESTINATION share/doc/cairn)
install(FILES src/cli/completion.bash DESTINATION share/bash-completion/completions RENAME cairn)
install(FILES slurm/modulefile DESTINATION share/modulefiles/cairn RENAME ${PROJECT_VERSION})
install(PROGRAMS slurm/train.sbatch slurm/chain.sh slurm/scaling.sh DESTINATION share/cairn/slurm)
install(CODE [[
  foreach(NAME train.sbatch scaling.sh)
    set(SCRIPT "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/share/cairn/slurm/${NAME}")
    file(READ "${SCRIPT}" TEXT)
    string(REPLACE "\ninstalled=\n" "\ninstalled='${CMAKE_INSTALL_PREFIX}'\n" TEXT "${TEXT}")
    file(WRITE "${SCRIPT}" "${TEXT}")
  endforeach()
]])

# The man page says what the program says of itself. A program with sanitizers in it is not for installing.
if(NOT CAIRN_SANITIZE)
  add_custom_command(OUTPUT cairn.1 DEPENDS cairn src/cli/manual.sh VERBATIM
                     COMMAND sh ${CMAKE_SOURCE_DIR}/src/cli/manual.sh cairn.1 ${CMAKE_CROSSCOMPILING_EMULATOR}
                             $<TARGET_FILE:cairn>)
  add_custom_target(manual ALL DEPENDS cairn.1)
  install(FILES ${CMAKE_BINARY_DIR}/cairn.1 DESTINATION share/man/man1)
endif()
