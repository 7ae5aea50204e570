#include "src/cli/usage.h"

#include <string.h>

bool usage_takes_value(const char *help, const char *option)
{
    size_t length = strlen(option);
    for (const char *line = help; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, "  ", 2) == 0 && strncmp(line + 2, option, length) == 0 && line[2 + length] == ' ')
            return line[3 + length] != ' ';
    }
    return false;
}

bool usage_has_option(const char *help, int argc, char **argv, const char *option)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], option) == 0)
            return true;
        i += usage_takes_value(help, argv[i]);
    }
    return false;
}
