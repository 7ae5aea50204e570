#include "src/train/corpora.h"

static enum status share_documents(struct context *context, struct mesh *mesh, struct corpus *corpus)
{
    bool reads = mesh_rank(mesh, MESH_TEAM) == 0;
    CHECK(mesh_agree(mesh, context, reads ? corpus_scan(corpus) : STATUS_OK));
    int64_t count = reads ? corpus_documents(corpus) : 0;
    mesh_broadcast(mesh, MESH_TEAM, 0, &count, 1, DTYPE_I64);
    CHECK(mesh_agree(mesh, context, reads ? STATUS_OK : corpus_take_documents(corpus, count)));
    mesh_broadcast(mesh, MESH_TEAM, 0, corpus_document_list(corpus), count, DTYPE_I64);
    return STATUS_OK;
}

enum status corpora_open(struct context *context, struct mesh *mesh, const struct config *config,
                         const struct text_list *files, double begin, double end, struct corpus **corpus)
{
    const struct data_config *data = &config->data;
    CHECK(
        mesh_agree(mesh, context,
                   corpus_map(context, files, data->format, config->model.vocabulary, data->eot, begin, end, corpus)));
    return share_documents(context, mesh, *corpus);
}
