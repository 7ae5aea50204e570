#include "dist/parallel/packet.h"

#include <string.h>

enum { PART_ALIGNMENT = 64 };

static size_t tensor_bytes(const struct tensor *tensor)
{
    return (size_t)tensor_count(tensor) * dtype_size(tensor->dtype);
}

struct packet_layout packet_layout(const struct packet_form *form, enum packet_way way)
{
    struct packet_layout layout = {.dtype = DTYPE_BYTE};
    for (int i = 0; i < form->count; i++) {
        const struct packet_part *part = &form->part[i];
        layout.offset[i] = -1;
        if (way == PACKET_BACKWARD && !part->differentiable)
            continue;
        layout.parts++;
        layout.offset[i] = integer_round_up(layout.bytes, PART_ALIGNMENT);
        layout.count = part->rows * part->columns;
        layout.dtype = part->dtype;
        layout.bytes = layout.offset[i] + layout.count * (int64_t)dtype_size(part->dtype);
    }
    if (layout.parts > 1) {
        layout.count = layout.bytes;
        layout.dtype = DTYPE_BYTE;
    }
    return layout;
}

int64_t packet_bytes(const struct packet_form *form)
{
    return packet_layout(form, PACKET_FORWARD).bytes;
}

bool packet_fits(const struct packet *packet, const struct packet_form *form)
{
    if (packet->count != form->count)
        return false;
    for (int i = 0; i < form->count; i++) {
        const struct tensor *tensor = packet->tensor[i];
        const struct packet_part *part = &form->part[i];
        if (!tensor || tensor->dtype != part->dtype || tensor_count(tensor) != part->rows * part->columns)
            return false;
    }
    return true;
}

void packet_write(const struct packet *packet, const struct packet_layout *layout, void *buffer)
{
    for (int i = 0; i < packet->count; i++)
        memcpy((char *)buffer + layout->offset[i], packet->tensor[i]->data, tensor_bytes(packet->tensor[i]));
}

bool packet_enter(struct tape *tape, const struct packet_form *form, void *buffer, struct packet *packet)
{
    struct packet_layout layout = packet_layout(form, PACKET_FORWARD);
    packet->count = form->count;
    for (int i = 0; i < form->count; i++) {
        const struct packet_part *part = &form->part[i];
        packet->tensor[i] = tape_leaf(tape, part->dtype, 2, (int64_t[]){part->rows, part->columns},
                                      (char *)buffer + layout.offset[i], part->differentiable && tape->recording);
        if (!packet->tensor[i])
            return false;
    }
    return true;
}

void packet_write_gradients(const struct packet *packet, const struct packet_layout *layout, void *buffer)
{
    for (int i = 0; i < packet->count; i++) {
        if (layout->offset[i] < 0)
            continue;
        const struct tensor *tensor = packet->tensor[i];
        void *to = (char *)buffer + layout->offset[i];
        if (tensor->gradient)
            memcpy(to, tape_gradient(tensor), tensor_bytes(tensor));
        else
            memset(to, 0, tensor_bytes(tensor));
    }
}

void packet_seed(struct tape *tape, const struct packet *packet, const struct packet_layout *layout, const void *buffer)
{
    for (int i = 0; i < packet->count; i++)
        if (layout->offset[i] >= 0)
            tape_seed(tape, packet->tensor[i], (const char *)buffer + layout->offset[i]);
}
