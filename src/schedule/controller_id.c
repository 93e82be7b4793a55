/* What the controller is told of a job, and what its tasks are called. */
#include "base/checksum.h"
#include "schedule/controller.h"

#include <assert.h>

struct controller_job controller_job_of(const Unum__V1__Job *job, uint64_t create_revision)
{
    struct job_settings settings;
    job_settings(job, &settings);
    struct controller_job wanted = {
        .project = settings.project,
        .name = settings.name,
        .create_revision = create_revision,
        .task_generation = job->task_generation,
        .count = job->count,
        .stopped = job->stopped,
        .private_network = job->private_network,
        .cpu_milli = settings.cpu_milli,
        .memory_bytes = settings.memory_bytes,
    };
    for (size_t i = 0; i < job->n_ports && i < JOB_PORTS_MAX; i++) {
        wanted.ports[i] = (uint16_t)job->ports[i]->port;
        wanted.steps[i] = (uint16_t)job->ports[i]->step;
        wanted.port_count++;
    }
    return wanted;
}

void controller_task_id(const struct id *computer, const struct controller_job *job, uint32_t index,
                        struct id *ret_id)
{
    uint8_t bytes[ID_BYTES + 2 * (LIMIT_NAME_BYTES_MAX + 2) + 16];
    struct writer writer = writer_of(bytes, sizeof bytes);
    writer_put(&writer, computer->bytes, ID_BYTES);
    writer_put_bytes(&writer, bytes_of_text(job->project));
    writer_put_bytes(&writer, bytes_of_text(job->name));
    writer_put_u32(&writer, index);
    writer_put_u64(&writer, job->create_revision);
    assert(!writer.failed);
    struct id id;
    store_u64_le(id.bytes, hash64(bytes, writer.used, 1));
    store_u64_le(id.bytes + 8, hash64(bytes, writer.used, 2));
    if (id_is_zero(&id)) id.bytes[0] = 1;
    *ret_id = id;
}
