/* Packets: several tensors that pass from one chunk of the model to the next as one message, and their gradients that
 * come back as one. */
#ifndef CAIRN_DIST_PARALLEL_PACKET_H
#define CAIRN_DIST_PARALLEL_PACKET_H

#include "src/tensor/tape.h"

enum { PACKET_TENSORS = 16 };

struct packet {
    int count;
    struct tensor *tensor[PACKET_TENSORS];
};

/* What both sides know of a packet beforehand. */
struct packet_form {
    int count;
    struct packet_part {
        enum dtype dtype; /* F32, BF16 or I32 */
        int64_t rows, columns;
        bool differentiable; /* its gradient goes back; I32 has none */
    } part[PACKET_TENSORS];
};

enum packet_way { PACKET_FORWARD, PACKET_BACKWARD };

/* Parts at offsets of a buffer; the way back has the differentiable ones only. A single part is the whole message. */
struct packet_layout {
    int parts;
    int64_t offset[PACKET_TENSORS]; /* bytes; -1 for a part that is not in the message */
    int64_t bytes;
    int64_t count; /* elements to send, of type dtype */
    enum dtype dtype;
};

struct packet_layout packet_layout(const struct packet_form *form, enum packet_way way);

/* Bytes of the message forward; the one back is no larger. */
int64_t packet_bytes(const struct packet_form *form);

/* Whether the tensors are those of the form, in any shape of as many elements. */
bool packet_fits(const struct packet *packet, const struct packet_form *form);

/* The packet in a buffer. */
void packet_write(const struct packet *packet, const struct packet_layout *layout, void *buffer);

/* Leaves over a buffer that a packet has come in; the differentiable ones need gradients while the tape records.
 * False when memory is out. */
bool packet_enter(struct tape *tape, const struct packet_form *form, void *buffer, struct packet *packet);

/* Gradients of a packet that was entered; zeros where a tensor has got none. */
void packet_write_gradients(const struct packet *packet, const struct packet_layout *layout, void *buffer);

/* Adds gradients that have come back to those of the packet's tensors. */
void packet_seed(struct tape *tape, const struct packet *packet, const struct packet_layout *layout,
                 const void *buffer);

#endif
