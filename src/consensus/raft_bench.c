/* How fast the core alone is: three cores in one process, messages handed over by pointer, every
 * write "durable" at once. Entries/s one at a time and in batches of 256, and bytes of an idle
 * group. Not a test: prints figures. */
#include "consensus/raft.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NODES = 3, QUEUE_MAX = 256, ENTRY_BYTES = 128, ENTRIES = 2000000 };

struct bench {
    struct raft *raft[NODES];
    uint64_t now_ns;
    uint32_t head, tail;
    struct raft_message queue[QUEUE_MAX];
    uint64_t commit;
};

static void bench_step(struct bench *bench, uint32_t node, struct raft_event event);

static void perform(struct bench *bench, uint32_t node, struct raft_action *action,
                    struct raft_event *persisted)
{
    struct raft_message *message = &action->send.message;
    uint64_t term = 0;

    switch (action->type) {
    case RAFT_ACTION_PERSIST_HARD:
        persisted->term = action->hard.term;
        persisted->vote = action->hard.vote;
        break;
    case RAFT_ACTION_APPEND:
        persisted->index = action->append.first + action->append.count - 1;
        break;
    case RAFT_ACTION_SEND:
        if (message->type == RAFT_MESSAGE_APPEND) {
            uint64_t index = message->index + 1;
            while (raft_term_at(bench->raft[node], index, &term) &&
                   raft_send_add_entry(&action->send, index, term, ENTRY_BYTES, NULL)) {
                index++;
            }
            bench_step(bench, node,
                       (struct raft_event) { .type = RAFT_EVENT_SENT,
                                             .peer = message->to,
                                             .term = message->term,
                                             .message = message });
        }
        bench->queue[bench->tail++ % QUEUE_MAX] = *message;
        assert(bench->tail - bench->head <= QUEUE_MAX);
        break;
    case RAFT_ACTION_COMMIT:
        if (node == 0) bench->commit = action->index;
        bench_step(bench, node,
                   (struct raft_event) { .type = RAFT_EVENT_APPLIED, .index = action->index });
        break;
    default: break;
    }
}

static void bench_step(struct bench *bench, uint32_t node, struct raft_event event)
{
    /* A report may ask for more, so each depth has its own actions; four are never reached. */
    static struct raft_actions actions[4];
    static uint32_t depth;
    struct raft_event persisted = { .type = RAFT_EVENT_PERSISTED };

    assert(depth < 4);
    struct raft_actions *mine = &actions[depth++];
    event.now_ns = bench->now_ns;
    enum status status = raft_step(bench->raft[node], &event, mine);
    if (status != STATUS_OK) abort();
    for (uint32_t i = 0; i < mine->count; i++) perform(bench, node, &mine->items[i], &persisted);
    depth--;
    if (persisted.term == 0 && persisted.index == 0) return;
    if (persisted.index != 0) {
        (void)raft_term_at(bench->raft[node], persisted.index, &persisted.index_term);
    }
    bench_step(bench, node, persisted);
}

static void drain(struct bench *bench)
{
    while (bench->head != bench->tail) {
        struct raft_message message = bench->queue[bench->head++ % QUEUE_MAX];
        bench_step(bench, (uint32_t)message.to - 1,
                   (struct raft_event) { .type = RAFT_EVENT_MESSAGE, .message = &message });
    }
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void measure(struct bench *bench, uint32_t batch)
{
    double start = seconds_now();
    uint64_t first = bench->commit;
    for (uint32_t done = 0; done < ENTRIES; done += batch) {
        bench_step(bench, 0,
                   (struct raft_event) {
                       .type = RAFT_EVENT_PROPOSE, .count = batch, .bytes = batch * ENTRY_BYTES });
        drain(bench);
    }
    double elapsed = seconds_now() - start;
    printf("batches of %3" PRIu32 ": %6.2f million entries/s\n", batch,
           (double)(bench->commit - first) / elapsed / 1e6);
}

int main(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct raft_persisted persisted = { .membership = { .count = NODES, .ids = { 1, 2, 3 } } };

    if (bench == NULL) return 1;
    bench->now_ns = 1000000;
    for (uint32_t i = 0; i < NODES; i++) {
        struct raft_options options = { .id = i + 1 };
        void *memory = aligned_alloc(16, raft_size_bytes(&options));
        if (memory == NULL) exit(1);
        if (raft_init(memory, &options, &persisted, &bench->raft[i]) != STATUS_OK) exit(1);
        if (raft_start(bench->raft[i], bench->now_ns, 0) != STATUS_OK) exit(1);
    }
    struct raft_options options = { .id = 1 };
    printf("an idle group: %zu bytes\n", raft_size_bytes(&options));
    bench->now_ns += 2 * CONSENSUS_ELECTION_TIMEOUT_NS;
    bench_step(bench, 0, (struct raft_event) { .type = RAFT_EVENT_CAMPAIGN });
    drain(bench);
    measure(bench, 1);
    measure(bench, 256);
    return 0;
}
