#include "src/cli/version.h"

#include <stdio.h>

#include "dist/mesh/team.h"
#include "io/checkpoint/checkpoint.h"
#include "src/cli/revision.h"
#include "src/ops/engine.h"
#include "src/ops/processor.h"

enum status version_print(struct context *context)
{
    char text[256];
    int kernels;
    CHECK(engine_rank(context, &kernels));
    printf("cairn %s\n", CAIRN_VERSION);
    printf("commit       %s\n", cairn_revision);
    printf("compiler     %s\n", CAIRN_COMPILER);
    team_library_version(text, sizeof text);
    printf("MPI          %s\n", text);
    checkpoint_library_version(text, sizeof text);
    printf("HDF5         %s\n", text);
    engine_library_version(text, sizeof text);
    printf("oneDNN       %s\n", text);
    processor_instructions(text, sizeof text);
    printf("processor    %s\n", text);
    printf("kernels      %s\n", engine_name(kernels));
    return STATUS_OK;
}
