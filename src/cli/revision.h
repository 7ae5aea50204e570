/* The commit that the program was made from; "-modified" behind it says that files had been changed since;
 * "unknown" outside of a checkout and of an archive made by git. */
#ifndef CAIRN_CLI_REVISION_H
#define CAIRN_CLI_REVISION_H

extern const char cairn_revision[];

#endif
