#include "src/train/confusion.h"

#include <stdio.h>

#include "io/report/report.h"
#include "src/train/image_facts.h"

enum status confusion_write(struct context *context, const char *folder, const char *data_facts, const double *counts,
                            int64_t classes)
{
    struct image_facts facts;
    struct report_file file;
    char path[REPORT_PATH];
    char number[24];
    enum status status = image_facts_read(context, "the run", data_facts, &facts);
    snprintf(path, sizeof path, "%.1000s/confusion.csv", folder);
    TRY(status);
    TRY(report_file_open(context, path, &file));
    csv_write(file.out, "label", false);
    for (int64_t c = 0; c < classes; c++)
        csv_write(file.out, image_facts_name(&facts, c, number), c == classes - 1);
    for (int64_t label = 0; label < classes; label++) {
        csv_write(file.out, image_facts_name(&facts, label, number), false);
        for (int64_t c = 0; c < classes; c++) {
            snprintf(number, sizeof number, "%.0f", counts[label * classes + c]);
            csv_write(file.out, number, c == classes - 1);
        }
    }
    status = report_file_close(context, &file);
done:
    image_facts_destroy(context, &facts);
    return status;
}
