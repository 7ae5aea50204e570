#include <hdf5.h>
#include <stdio.h>

#include "io/checkpoint/checkpoint.h"

void checkpoint_library_version(char *text, size_t size)
{
    unsigned major, minor, release;
    if (H5get_libversion(&major, &minor, &release) < 0)
        snprintf(text, size, "unknown");
    else
        snprintf(text, size, "%u.%u.%u", major, minor, release);
}
