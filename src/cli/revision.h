/* The commit that the program was made from; "-dirty" behind it says that files had been changed since. */
#ifndef CAIRN_CLI_REVISION_H
#define CAIRN_CLI_REVISION_H

extern const char cairn_revision[];

#endif
