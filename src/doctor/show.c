/* Findings for people and for programs. */
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/doctor/doctor_private.h"

static const char *severity_name(enum doctor_severity severity)
{
    static const char *const names[] = {"note", "warning", "serious"};
    return names[severity];
}

static int count_hosts(const struct doctor_facts *ranks, int count)
{
    int hosts = count > 0;
    for (int i = 1; i < count; i++)
        hosts += ranks[i].host_first != ranks[i - 1].host_first;
    return hosts;
}

void doctor_print(const struct doctor_facts *ranks, int count, const struct doctor_findings *findings,
                  const char *folder)
{
    int hosts = count_hosts(ranks, count);
    int all = findings->count + findings->left_out;
    for (int i = 0; i < findings->count; i++) {
        const struct doctor_finding *finding = &findings->list[i];
        printf("%-8s %s: ", severity_name(finding->severity), finding->name);
        if (finding->names[0])
            printf("%s", finding->names);
        if (finding->hosts > 3)
            printf(" and %d more", finding->hosts - 3);
        printf("%s%s\n         %s\n", finding->names[0] ? ": " : "", finding->detail, finding->remedy);
    }
    if (findings->left_out)
        printf("and %d more findings\n", findings->left_out);
    printf("%d rank%s on %d host%s, folder %s (%s): ", count, count == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s",
           folder, ranks->folder.type);
    if (all == 0)
        printf("nothing found\n");
    else
        printf("%d finding%s, %d of them serious\n", all, all == 1 ? "" : "s", findings->serious);
}

json_t *doctor_json(const struct doctor_facts *ranks, int count, const struct doctor_findings *findings)
{
    json_t *list = json_array();
    for (int i = 0; i < findings->count; i++) {
        const struct doctor_finding *finding = &findings->list[i];
        json_array_append_new(list, json_form("{s:s, s:s, s:i, s:s, s:s, s:s}", "name", finding->name, "severity",
                                              severity_name(finding->severity), "hosts", finding->hosts, "named",
                                              finding->names, "detail", finding->detail, "remedy", finding->remedy));
    }
    json_t *places = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(places, json_form("{s:i, s:s, s:i, s:i, s:i, s:s, s:s}", "rank", ranks[i].rank, "host",
                                                ranks[i].host, "threads", ranks[i].threads, "cores", ranks[i].cores,
                                                "numa_domains", ranks[i].domains, "kernels", ranks[i].isa,
                                                "folder_type", ranks[i].folder.type));
    return json_form("{s:s, s:i, s:i, s:o, s:i, s:o}", "doctor", "findings", "hosts", count_hosts(ranks, count),
                     "serious", findings->serious, "findings", list, "left_out", findings->left_out, "ranks", places);
}
