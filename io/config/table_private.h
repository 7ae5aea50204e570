/* The words in which the table of settings is written, for io/config/table.c. */
#ifndef CAIRN_IO_CONFIG_TABLE_PRIVATE_H
#define CAIRN_IO_CONFIG_TABLE_PRIVATE_H

#include "io/config/settings.h"

/* Bounds that only keep later arithmetic from overflowing; messages leave them out unless they were reached. */
#define COUNT_MAXIMUM 1e15
#define DIMENSION_MAXIMUM 2147483647.0

#define FIELD(member) .key = #member, .offset = offsetof(struct config, member)
#define INTEGER(member, low, high) FIELD(member), .type = SETTING_INTEGER, .minimum = (low), .maximum = (high)
#define REAL(member, low, high) FIELD(member), .type = SETTING_REAL, .minimum = (low), .maximum = (high)
/* The arithmetic of tensors takes these in single precision. */
#define SINGLE(member, low, high) REAL(member, low, high), .single = true
#define BOOLEAN(member) FIELD(member), .type = SETTING_BOOLEAN
#define WORD(member) FIELD(member), .type = SETTING_WORD
#define TEXT(member, low) FIELD(member), .type = SETTING_TEXT, .minimum = (low), .maximum = TEXT_LENGTH - 1
#define PATH(member, low) TEXT(member, low), .path = true
#define LIST(member) FIELD(member), .type = SETTING_LIST, .minimum = 1, .maximum = TEXT_LIST_ITEMS
#define PATHS(member) LIST(member), .path = true
#define SEED(member) FIELD(member), .type = SETTING_SEED
#define REQUIRED .default_kind = DEFAULT_REQUIRED
#define DERIVED .default_kind = DEFAULT_DERIVED, .standard
#define DEFAULT .standard
#define AUTOMATIC .automatic = true, .standard = "auto"
#define HELP .help
#define ONLY(bits) .families = (bits)
#define DECODER (1u << FAMILY_DECODER)
#define VIT (1u << FAMILY_VIT)
#define RESNET (1u << FAMILY_RESNET)
#define OF_VIT .standard_of[FAMILY_VIT]

#endif
