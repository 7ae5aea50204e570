/* UTF-8 as YAML wants it. */
#ifndef CAIRN_IO_CONFIG_UNICODE_H
#define CAIRN_IO_CONFIG_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool config_text_is_valid(const char *text, size_t length);

/* Whether a character may stand in double quotes as it is (YAML 1.1, section 4.1.1), line breaks left out. */
bool config_character_is_printable(uint32_t code);

#endif
