# Tests by label: lint, unit (no MPI), mpi, conformance, fault, end (end to end). `check` marks the quick ones.
# Every test has a timeout, and a failed assertion under MPI ends all ranks (CMOCKA_TEST_ABORT).

enable_testing()

# How many times as long as on a quiet machine of today a test may take (.ci/count measures it), and twice that, for
# other work may begin while tests run.
set(CAIRN_SLOWNESS 1 CACHE STRING "Factor of all limits of time of the tests")
function(cairn_limit SECONDS RESULT)
  math(EXPR LIMIT "2 * ${CAIRN_SLOWNESS} * ${SECONDS}")
  set(${RESULT} ${LIMIT} PARENT_SCOPE)
endfunction()

set(MPI_ENVIRONMENT CMOCKA_TEST_ABORT=1 OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_hwloc_base_binding_policy=none
    ASAN_OPTIONS=detect_leaks=0) # Open MPI leaks; the unit tests are held to account
# A thread that is cancelled leaves marks on its stack, at which the sanitizer takes offence when it gives back its own
# stack for signals: it has none.
set(UNIT_ENVIRONMENT OMP_NUM_THREADS=2 ASAN_OPTIONS=allocator_may_return_null=1:use_sigaltstack=0)

add_library(test_support STATIC tests/support/support.c)
target_link_libraries(test_support PUBLIC core PkgConfig::CMOCKA)

# cairn_unit(NAME LABELS ... LINKS ...): tests/unit/test_NAME.c, one process, linked with its row of the table only.
function(cairn_unit NAME)
  cmake_parse_arguments(UNIT "" "" "LABELS;LINKS" ${ARGN})
  add_executable(test_${NAME} tests/unit/test_${NAME}.c)
  target_link_libraries(test_${NAME} PRIVATE test_support ${UNIT_LINKS})
  set_target_properties(test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  cairn_limit(300 LIMIT)
  add_test(NAME unit.${NAME} COMMAND test_${NAME} WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set_tests_properties(unit.${NAME} PROPERTIES LABELS "unit;${UNIT_LABELS}" TIMEOUT ${LIMIT}
                       ENVIRONMENT "${UNIT_ENVIRONMENT};CAIRN_SOURCE=${CMAKE_SOURCE_DIR}")
endfunction()

# cairn_mpi(NAME RANKS 1 2 ... LABELS ... LINKS ...): tests/mpi/test_NAME.c at each number of ranks.
function(cairn_mpi NAME)
  cmake_parse_arguments(MPITEST "" "" "RANKS;LABELS;LINKS" ${ARGN})
  add_executable(test_mpi_${NAME} tests/mpi/test_${NAME}.c)
  target_link_libraries(test_mpi_${NAME} PRIVATE test_support ${MPITEST_LINKS})
  set_target_properties(test_mpi_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  cairn_limit(300 LIMIT)
  foreach(RANKS ${MPITEST_RANKS})
    add_test(NAME mpi.${NAME}.${RANKS}
             COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${RANKS} ${CMAKE_CROSSCOMPILING_EMULATOR}
                     $<TARGET_FILE:test_mpi_${NAME}>
             WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    set_tests_properties(mpi.${NAME}.${RANKS} PROPERTIES LABELS "mpi;${MPITEST_LABELS}" TIMEOUT ${LIMIT}
                         PROCESSORS 2 ENVIRONMENT "${MPI_ENVIRONMENT};CAIRN_SOURCE=${CMAKE_SOURCE_DIR}")
  endforeach()
endfunction()

# cairn_script(NAME SCRIPT ... LABELS ... TIMEOUT ...): a shell script that gets the source and the build folder.
function(cairn_script NAME SCRIPT)
  cmake_parse_arguments(SCRIPT "" "TIMEOUT" "LABELS" ${ARGN})
  cairn_limit(${SCRIPT_TIMEOUT} LIMIT)
  add_test(NAME ${NAME} COMMAND bash ${CMAKE_SOURCE_DIR}/tests/${SCRIPT} ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(${NAME} PROPERTIES LABELS "${SCRIPT_LABELS}" TIMEOUT ${LIMIT} PROCESSORS 2
                       SKIP_RETURN_CODE 77 ENVIRONMENT "${MPI_ENVIRONMENT}")
endfunction()

cairn_unit(core       LABELS check LINKS core)
cairn_unit(tensor     LABELS check LINKS tensor)
cairn_unit(recompute  LABELS check LINKS tensor)
cairn_unit(threads    LABELS check LINKS ops)
cairn_unit(ops        LABELS check LINKS ops)
cairn_unit(ops_images LABELS check LINKS ops)
cairn_unit(ops_attention LABELS check LINKS ops)
cairn_unit(ops_attention_spans LABELS check LINKS ops matrix_emulated)
cairn_unit(tiles LABELS check LINKS ops matrix_emulated)
cairn_unit(ops_arrays LABELS check LINKS ops)
cairn_unit(router     LABELS check LINKS ops)
cairn_unit(route      LABELS check LINKS ops)
cairn_unit(residual   LABELS check LINKS ops)
cairn_unit(memory     LABELS check LINKS parallel)
cairn_unit(schedule   LABELS check LINKS parallel)
cairn_unit(memory_properties LABELS check LINKS parallel)
cairn_unit(packing    LABELS check LINKS ops)
cairn_unit(config     LABELS check LINKS config)
cairn_unit(data       LABELS check LINKS data)
cairn_unit(images     LABELS check LINKS images)
cairn_unit(sampler    LABELS check LINKS data)
cairn_unit(passkey    LABELS check LINKS passkey)
cairn_unit(json       LABELS check LINKS json)
cairn_unit(records    LABELS check LINKS records)
cairn_unit(metrics    LABELS check LINKS metrics)
cairn_unit(report     LABELS check LINKS report)
cairn_unit(doctor     LABELS check LINKS doctor)
cairn_unit(study      LABELS check LINKS study)
cairn_unit(runs       LABELS check LINKS study)
cairn_unit(spectrum   LABELS check LINKS checkpoint)
cairn_unit(history    LABELS check LINKS history)
cairn_unit(lock       LABELS check LINKS lock)
cairn_unit(scalars    LABELS check LINKS train)
cairn_unit(watch      LABELS check LINKS watch)
cairn_unit(timekeeper      LABELS check LINKS train)
cairn_unit(lifecycle       LABELS check LINKS train)
cairn_unit(optim      LABELS check LINKS optim)
cairn_unit(layers     LABELS check LINKS model)
cairn_unit(model      LABELS check LINKS model)
cairn_unit(plan       LABELS check LINKS plan)

cairn_mpi(mesh       RANKS 1 2 3 4 5 8 LABELS LINKS mesh)
cairn_mpi(parallel   RANKS 1 2 3 4 LABELS LINKS parallel)
cairn_mpi(class_loss RANKS 1 3 LABELS LINKS parallel)
cairn_mpi(memory     RANKS 1 2 3 4 LABELS LINKS parallel)
cairn_mpi(pipeline   RANKS 1 2 3 4 LABELS LINKS parallel)
add_library(checkpoint_world STATIC tests/mpi/checkpoint_world.c)
target_link_libraries(checkpoint_world PUBLIC test_support checkpoint)
cairn_mpi(checkpoint RANKS 1 2 3 4 LABELS LINKS checkpoint_world)
cairn_mpi(checkpoint_faults RANKS 1 2 3 4 LABELS LINKS checkpoint_world)
cairn_mpi(background RANKS 1 2 3 4 LABELS LINKS checkpoint)
cairn_mpi(inspect    RANKS 1 LABELS LINKS checkpoint)
cairn_mpi(model      RANKS 1 2 3 4 LABELS LINKS model optim)
add_library(toy STATIC tests/mpi/toy.c)
target_link_libraries(toy PUBLIC model)
cairn_mpi(family     RANKS 1 2 3 4 LABELS LINKS train toy)
cairn_mpi(train      RANKS 1 2 3 4 8 LABELS LINKS train)

add_library(kinds STATIC tests/mpi/kinds.c)
target_link_libraries(kinds PUBLIC test_support train)
cairn_mpi(kinds      RANKS 1 2 3 4 8 LABELS LINKS kinds)
cairn_mpi(plan       RANKS 1 2 3 4 8 LABELS LINKS kinds plan)
cairn_mpi(watch      RANKS 1 2 3 4 LABELS LINKS kinds)
cairn_mpi(kinds_tokens RANKS 1 2 LABELS LINKS kinds)
cairn_mpi(kinds_generate RANKS 1 2 LABELS LINKS kinds)
cairn_mpi(kinds_routers RANKS 1 2 3 4 8 LABELS LINKS kinds)

# Watch what they send.
foreach(NAME mesh parallel pipeline memory model train)
  target_sources(test_mpi_${NAME} PRIVATE tests/mpi/in_flight.c)
endforeach()

add_executable(conformance tests/conformance/main.c tests/conformance/case.c tests/conformance/seen.c
               tests/conformance/values.c tests/conformance/vision.c)
target_link_libraries(conformance PRIVATE train parallel_hdf5)
set_target_properties(conformance PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

# cairn_conformance(NAME RANKS arguments...): all cases of the reference under one mesh.
file(GLOB CASES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/conformance/cases/*.h5)
function(cairn_conformance NAME RANKS)
  cairn_limit(300 LIMIT)
  add_test(NAME conformance.${NAME}
           COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${RANKS} ${CMAKE_CROSSCOMPILING_EMULATOR}
                   $<TARGET_FILE:conformance> ${ARGN} ${CASES})
  set_tests_properties(conformance.${NAME} PROPERTIES LABELS conformance TIMEOUT ${LIMIT} PROCESSORS 2
                       ENVIRONMENT "${MPI_ENVIRONMENT}")
endfunction()

cairn_conformance(one 1)
cairn_conformance(tensor2 2 --tensor 2)
cairn_conformance(tensor3 3 --tensor 3)
cairn_conformance(tensor4 4 --tensor 4)
cairn_conformance(pipeline2 2 --pipeline 2)
cairn_conformance(pipeline4 4 --pipeline 4)
cairn_conformance(virtual2 2 --pipeline 2 --virtual-stages 2)
cairn_conformance(data2 2 --data 2)
cairn_conformance(data3 3 --data 3)
cairn_conformance(context2 2 --context 2)
cairn_conformance(context4 4 --context 4)
cairn_conformance(tensor2-context2 4 --tensor 2 --context 2)
cairn_conformance(pipeline2-context2 4 --pipeline 2 --context 2)
cairn_conformance(tensor2-pipeline2 4 --tensor 2 --pipeline 2)
cairn_conformance(tensor2-pipeline2-data2 8 --tensor 2 --pipeline 2 --data 2)
cairn_conformance(data2-pipeline2-context2 8 --data 2 --pipeline 2 --context 2)
list(FILTER CASES INCLUDE REGEX "mor|recursive") # those of whose recursions a pipeline may make no ring
cairn_conformance(stage2 2 --pipeline 2 --recursions stage)
cairn_conformance(stage3 3 --pipeline 3 --recursions stage)

add_library(fast_clock MODULE tests/support/fast_clock.c)
target_link_libraries(fast_clock PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(fast_clock PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
cairn_script(lint.layers lint/layers.sh LABELS lint check TIMEOUT 60)
cairn_script(lint.layers_catches lint/layers_test.sh LABELS lint check TIMEOUT 60)
cairn_script(lint.documents lint/documents.sh LABELS lint check TIMEOUT 120)
cairn_script(lint.documents_catches lint/documents_test.sh LABELS lint check TIMEOUT 120)
cairn_script(lint.format lint/format.sh LABELS lint check TIMEOUT 60)
cairn_script(end.smoke end_to_end/smoke.sh LABELS end check TIMEOUT 60)
cairn_script(end.install end_to_end/install.sh LABELS end TIMEOUT 300)
cairn_script(end.same_answer end_to_end/same_answer.sh LABELS end TIMEOUT 600)
cairn_script(end.resume end_to_end/resume.sh LABELS end TIMEOUT 900)
cairn_script(end.line end_to_end/line.sh LABELS end TIMEOUT 600)
cairn_script(end.signals end_to_end/signals.sh LABELS end TIMEOUT 900)
cairn_script(end.folder end_to_end/folder.sh LABELS end TIMEOUT 600)
cairn_script(end.streams end_to_end/streams.sh LABELS end TIMEOUT 900)
cairn_script(end.targets end_to_end/targets.sh LABELS end TIMEOUT 600)
cairn_script(end.generate end_to_end/generate.sh LABELS end TIMEOUT 900)
cairn_script(end.watch end_to_end/watch.sh LABELS end TIMEOUT 900)
cairn_script(end.spike end_to_end/spike.sh LABELS end TIMEOUT 900)
cairn_script(end.background end_to_end/background.sh LABELS end TIMEOUT 900)
cairn_script(end.steady end_to_end/steady.sh LABELS end TIMEOUT 900)
cairn_script(end.slurm end_to_end/slurm.sh LABELS end TIMEOUT 900)
cairn_script(end.bench end_to_end/bench.sh LABELS end TIMEOUT 900)
cairn_script(end.convert end_to_end/convert.sh LABELS end TIMEOUT 600)
cairn_script(end.plan end_to_end/plan.sh LABELS end check TIMEOUT 900)
cairn_script(end.doctor end_to_end/doctor.sh LABELS end TIMEOUT 900)
cairn_script(end.report end_to_end/report.sh LABELS end TIMEOUT 900)
cairn_script(end.scale end_to_end/scale.sh LABELS end TIMEOUT 900)
cairn_script(end.long end_to_end/long.sh LABELS end TIMEOUT 600)
cairn_script(fault.kill fault/kill.sh LABELS fault TIMEOUT 1200)
cairn_script(fault.campaign fault/campaign.sh LABELS fault TIMEOUT 1200)
cairn_script(fault.corrupt fault/corrupt.sh LABELS fault TIMEOUT 900)
add_executable(hang_program tests/fault/hang_program.c)
target_link_libraries(hang_program PRIVATE watch)
set_target_properties(hang_program PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_library(order MODULE tests/fault/order.c)
target_compile_options(order PRIVATE -fno-builtin)
target_link_libraries(order PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(order PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
cairn_script(fault.order fault/order.sh LABELS fault TIMEOUT 300)
cairn_script(fault.ranks_differ fault/ranks_differ.sh LABELS fault TIMEOUT 300)
cairn_script(fault.hang fault/hang.sh LABELS fault TIMEOUT 300)
cairn_script(fault.bad_input fault/bad_input.sh LABELS fault TIMEOUT 1200)
# Most of what it does is to wait for Slurm, so it begins first and goes on beside the others.
set_tests_properties(end.slurm PROPERTIES COST 1000 PROCESSORS 1)
# They end with 77 where the machine does not allow a check that they name.
set_tests_properties(end.doctor end.same_answer end.resume end.streams end.generate end.steady fault.kill fault.corrupt fault.bad_input
                     PROPERTIES SKIP_RETURN_CODE 77)

# tests/fault/fuzz_ROOM.c, linked with its room; the target `fuzzers` builds them and what they need, nothing else.
if(CAIRN_FUZZ)
  add_custom_target(fuzzers)
  file(GLOB FUZZERS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fault/fuzz_*.c)
  foreach(SOURCE ${FUZZERS})
    get_filename_component(FUZZER ${SOURCE} NAME_WE)
    string(REPLACE fuzz_ "" ROOM ${FUZZER})
    add_executable(${FUZZER} EXCLUDE_FROM_ALL ${SOURCE})
    target_link_libraries(${FUZZER} PRIVATE ${ROOM})
    target_link_options(${FUZZER} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${FUZZER} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    add_dependencies(fuzzers ${FUZZER})
  endforeach()
endif()
