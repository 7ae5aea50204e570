/* Between the files of this room. */
#ifndef CAIRN_DOCTOR_DOCTOR_PRIVATE_H
#define CAIRN_DOCTOR_DOCTOR_PRIVATE_H

#include "src/doctor/doctor.h"

/* Ranks of one host, or of the team. */
struct group {
    const struct doctor_facts *ranks;
    int count;
};

/* Whether it applies to the group; if so, what was found, without names of hosts. */
typedef bool check_function(const struct group *group, char *detail, size_t size);

check_function check_launcher, check_term, check_cores_asked, check_threads, check_threads_granted, check_threads_vary,
    check_quota, check_crowded, check_yield, check_floating, check_domains, check_permission, check_forced,
    check_unused, check_isa_differs, check_io_component, check_copy;
check_function check_memory_small, check_memory_limit, check_address_limit, check_locked_limit, check_open_files,
    check_core_dumps, check_shared_small, check_temporary_small, check_names, check_clock;
check_function check_folder_write, check_folder_differs, check_folder_full, check_folder_low, check_folder_rename,
    check_folder_flush, check_folder_network, check_folder_direct;

/* "12.0 GiB" into 16 bytes or more. */
const char *text_of_bytes(int64_t bytes, char *text, size_t size);

#endif
