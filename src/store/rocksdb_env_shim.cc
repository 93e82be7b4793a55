#include "store/rocksdb_env_shim.h"

extern "C" {
#include "store/synced_size.h"
}

#include <rocksdb/env.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

/* As in RocksDB's db/c.cc; rocksdb_env_shim_create checks it before it relies on it. */
struct rocksdb_env_t {
    rocksdb::Env *rep;
    bool is_default;
};

namespace {

using rocksdb::Slice;
using rocksdb::Status;

Status StatusOf(enum status status, const std::string &path)
{
    switch (status) {
    case STATUS_OK: return Status::OK();
    case STATUS_NOT_FOUND: return Status::PathNotFound(path);
    case STATUS_FULL: return Status::NoSpace(path);
    case STATUS_BUSY: return Status::Busy(path);
    default: return Status::IOError(path, status_name(status));
    }
}

/* The disk knows neither "." nor a slash at the end. */
std::string PathOf(const std::string &name)
{
    std::string path;
    for (char c : name) {
        if (c == '/' && (path.empty() || path.back() == '/')) continue;
        path += c;
    }
    if (!path.empty() && path.back() == '/') path.pop_back();
    return path;
}

/* --- manifests ---
 *
 * RocksDB takes a manifest whose last record is torn in the middle (a lost sector before one that
 * survived) for corrupt and never opens again. So beside each MANIFEST-n stands MANIFEST-n.synced:
 * how many of its bytes were synced. What lies behind them was never acknowledged and is not shown. */

const char SYNCED_SUFFIX[] = ".synced";

bool NameBegins(const std::string &path, const std::string &with)
{
    size_t slash = path.rfind('/');
    size_t start = slash == std::string::npos ? 0 : slash + 1;
    return path.compare(start, with.size(), with) == 0;
}

bool IsManifest(const std::string &path)
{
    return NameBegins(path, "MANIFEST-");
}

/* Written at each opening for people to read; nothing depends on it. */
bool IsOptions(const std::string &path)
{
    return NameBegins(path, "OPTIONS-");
}

bool IsSyncedFile(const std::string &path)
{
    size_t size = sizeof SYNCED_SUFFIX - 1;
    return path.size() > size && path.compare(path.size() - size, size, SYNCED_SUFFIX) == 0;
}

Status WriteSyncedSize(struct disk *disk, struct disk_file *file, uint64_t size)
{
    uint8_t sector[SYNCED_SIZE_BYTES];
    synced_size_encode(size, sector);
    return StatusOf(disk->write_sync(file, 0, sector, sizeof sector), "synced");
}

/* UINT64_MAX: all of it, where there is no such file (RocksDB's own tools make none). */
Status ReadSyncedSize(struct disk *disk, const std::string &path, uint64_t *ret_size)
{
    *ret_size = UINT64_MAX;
    if (!IsManifest(path)) return Status::OK();
    struct disk_file *file = nullptr;
    std::string synced = path + SYNCED_SUFFIX;
    enum status status = disk->open(disk, synced.c_str(), DISK_OPEN_READ, &file);
    if (status == STATUS_NOT_FOUND) return Status::OK();
    if (status != STATUS_OK) return StatusOf(status, synced);
    uint8_t bytes[SYNCED_SIZE_BYTES];
    size_t got = 0;
    status = disk->read(file, 0, bytes, sizeof bytes, &got);
    disk->close(file);
    if (status != STATUS_OK) return StatusOf(status, synced);
    if (synced_size_decode(bytes, got, ret_size)) return Status::OK();
    return Status::Corruption(synced, "its checksum does not hold");
}

class OpenFile {
  public:
    OpenFile(struct disk *disk, struct disk_file *file, std::string path,
             uint64_t limit = UINT64_MAX)
        : disk_(disk)
        , file_(file)
        , path_(std::move(path))
        , limit_(limit)
    {
    }
    ~OpenFile() { Close(); }
    OpenFile(const OpenFile &) = delete;
    OpenFile &operator=(const OpenFile &) = delete;

    void Close()
    {
        if (file_ != nullptr) disk_->close(file_);
        file_ = nullptr;
    }
    Status Read(uint64_t offset, size_t size, Slice *result, char *scratch) const
    {
        size_t got = 0;
        if (offset >= limit_) size = 0;
        else if (size > limit_ - offset) size = static_cast<size_t>(limit_ - offset);
        enum status status = disk_->read(file_, offset, scratch, size, &got);
        *result = Slice(scratch, status == STATUS_OK ? got : 0);
        return StatusOf(status, path_);
    }

    struct disk *disk_;
    struct disk_file *file_;
    std::string path_;
    uint64_t limit_; /* nothing is shown from here on */
};

class ShimSequentialFile : public rocksdb::SequentialFile {
  public:
    ShimSequentialFile(struct disk *disk, struct disk_file *file, const std::string &path,
                       uint64_t limit)
        : file_(disk, file, path, limit)
    {
    }
    Status Read(size_t size, Slice *result, char *scratch) override
    {
        Status status = file_.Read(offset_, size, result, scratch);
        offset_ += result->size();
        return status;
    }
    Status Skip(uint64_t size) override
    {
        offset_ += size;
        return Status::OK();
    }

  private:
    OpenFile file_;
    uint64_t offset_ = 0;
};

class ShimRandomAccessFile : public rocksdb::RandomAccessFile {
  public:
    ShimRandomAccessFile(struct disk *disk, struct disk_file *file, const std::string &path)
        : file_(disk, file, path)
    {
    }
    Status Read(uint64_t offset, size_t size, Slice *result, char *scratch) const override
    {
        return file_.Read(offset, size, result, scratch);
    }

  private:
    OpenFile file_;
};

class ShimWritableFile : public rocksdb::WritableFile {
  public:
    /* SYNCED may be null; then nobody wants to know how much was synced. */
    ShimWritableFile(struct disk *disk, struct disk_file *file, const std::string &path,
                     uint64_t size, struct disk_file *synced)
        : file_(disk, file, path)
        , synced_(disk, synced, path)
        , size_(size)
    {
    }
    using rocksdb::WritableFile::Append;
    Status Append(const Slice &data) override
    {
        if (data.empty()) return Status::OK();
        enum status status = file_.disk_->write(file_.file_, size_, data.data(), data.size());
        if (status == STATUS_OK) size_ += data.size();
        return StatusOf(status, file_.path_);
    }
    Status Truncate(uint64_t size) override
    {
        if (size == size_) return Status::OK();
        enum status status = file_.disk_->truncate(file_.file_, size);
        if (status == STATUS_OK) size_ = size;
        return StatusOf(status, file_.path_);
    }
    Status Close() override
    {
        file_.Close();
        synced_.Close();
        return Status::OK();
    }
    Status Flush() override { return Status::OK(); }
    Status Sync() override
    {
        if (IsOptions(file_.path_)) return Status::OK();
        Status status = StatusOf(file_.disk_->sync(file_.file_), file_.path_);
        if (!status.ok() || synced_.file_ == nullptr) return status;
        return WriteSyncedSize(synced_.disk_, synced_.file_, size_);
    }
    Status Fsync() override { return Sync(); }
    bool IsSyncThreadSafe() const override { return false; }
    uint64_t GetFileSize() override { return size_; }
    Status Allocate(uint64_t, uint64_t) override { return Status::OK(); }
    Status RangeSync(uint64_t, uint64_t) override { return Status::OK(); }

  private:
    OpenFile file_;
    OpenFile synced_;
    uint64_t size_;
};

class ShimDirectory : public rocksdb::Directory {
  public:
    ShimDirectory(struct disk *disk, std::string path)
        : disk_(disk)
        , path_(std::move(path))
    {
    }
    Status Fsync() override { return StatusOf(disk_->sync_folder(disk_, path_.c_str()), path_); }
    Status Close() override { return Status::OK(); }

  private:
    struct disk *disk_;
    std::string path_;
};

class ShimLock : public rocksdb::FileLock {};

class ShimLogger : public rocksdb::Logger {
  public:
    ShimLogger()
        : rocksdb::Logger(rocksdb::InfoLogLevel::HEADER_LEVEL)
    {
    }
    using rocksdb::Logger::Logv;
    void Logv(const char *, va_list) override {}
    void LogHeader(const char *, va_list) override {}
    void Logv(const rocksdb::InfoLogLevel, const char *, va_list) override {}
};

class ShimEnv : public rocksdb::Env {
  public:
    ShimEnv(struct disk *disk, bool simulation)
        : disk_(disk)
        , simulation_(simulation)
        , machine_(rocksdb::Env::Default())
    {
    }
    ~ShimEnv() override { WaitIdle(); }

    const char *Name() const override { return "unum"; }

    /* --- files --- */

    Status NewSequentialFile(const std::string &name,
                             std::unique_ptr<rocksdb::SequentialFile> *result,
                             const rocksdb::EnvOptions &) override
    {
        uint64_t limit = UINT64_MAX;
        Status status = ReadSyncedSize(disk_, PathOf(name), &limit);
        if (!status.ok()) return status;
        struct disk_file *file = nullptr;
        status = Open(name, DISK_OPEN_READ, &file);
        if (status.ok()) result->reset(new ShimSequentialFile(disk_, file, PathOf(name), limit));
        return status;
    }
    Status NewRandomAccessFile(const std::string &name,
                               std::unique_ptr<rocksdb::RandomAccessFile> *result,
                               const rocksdb::EnvOptions &) override
    {
        struct disk_file *file = nullptr;
        Status status = Open(name, DISK_OPEN_READ, &file);
        if (status.ok()) result->reset(new ShimRandomAccessFile(disk_, file, PathOf(name)));
        return status;
    }
    Status NewWritableFile(const std::string &name, std::unique_ptr<rocksdb::WritableFile> *result,
                           const rocksdb::EnvOptions &) override
    {
        return OpenToWrite(name, true, result);
    }
    Status ReopenWritableFile(const std::string &name,
                              std::unique_ptr<rocksdb::WritableFile> *result,
                              const rocksdb::EnvOptions &) override
    {
        return OpenToWrite(name, false, result);
    }
    Status ReuseWritableFile(const std::string &name, const std::string &old_name,
                             std::unique_ptr<rocksdb::WritableFile> *result,
                             const rocksdb::EnvOptions &) override
    {
        Status status = RenameFile(old_name, name);
        return status.ok() ? OpenToWrite(name, true, result) : status;
    }
    Status NewDirectory(const std::string &name,
                        std::unique_ptr<rocksdb::Directory> *result) override
    {
        result->reset(new ShimDirectory(disk_, PathOf(name)));
        return Status::OK();
    }
    Status FileExists(const std::string &name) override
    {
        struct disk_file *file = nullptr;
        enum status status = disk_->open(disk_, PathOf(name).c_str(), DISK_OPEN_READ, &file);
        if (status == STATUS_OK) disk_->close(file);
        if (status == STATUS_NOT_FOUND) return Status::NotFound(name);
        return status == STATUS_INVALID ? Status::OK() : StatusOf(status, name); /* a folder */
    }
    Status GetChildren(const std::string &folder, std::vector<std::string> *result) override
    {
        std::vector<struct disk_entry> entries(64);
        size_t count = 0;
        enum status status = STATUS_FULL;
        while (status == STATUS_FULL && entries.size() < ENTRIES_MAX) {
            entries.resize(entries.size() * 4);
            status = disk_->list(disk_, PathOf(folder).c_str(), entries.data(), entries.size(),
                                 &count);
        }
        result->clear();
        if (status != STATUS_OK) return StatusOf(status, folder);
        for (size_t i = 0; i < count; i++) {
            if (!IsSyncedFile(entries[i].name)) result->push_back(entries[i].name);
        }
        return Status::OK();
    }
    Status DeleteFile(const std::string &name) override
    {
        std::string path = PathOf(name);
        if (IsManifest(path)) {
            enum status status = disk_->remove(disk_, (path + SYNCED_SUFFIX).c_str());
            if (status != STATUS_OK && status != STATUS_NOT_FOUND) return StatusOf(status, path);
        }
        return StatusOf(disk_->remove(disk_, PathOf(name).c_str()), name);
    }
    Status CreateDir(const std::string &name) override
    {
        return StatusOf(disk_->make_folder(disk_, PathOf(name).c_str()), name);
    }
    Status CreateDirIfMissing(const std::string &name) override
    {
        enum status status = disk_->make_folder(disk_, PathOf(name).c_str());
        return status == STATUS_EXISTS ? Status::OK() : StatusOf(status, name);
    }
    Status DeleteDir(const std::string &name) override { return DeleteFile(name); }
    Status GetFileSize(const std::string &name, uint64_t *size) override
    {
        struct disk_file *file = nullptr;
        Status status = Open(name, DISK_OPEN_READ, &file);
        if (!status.ok()) return status;
        status = StatusOf(disk_->size(file, size), name);
        disk_->close(file);
        uint64_t limit = UINT64_MAX;
        if (status.ok()) status = ReadSyncedSize(disk_, PathOf(name), &limit);
        if (status.ok() && *size > limit) *size = limit;
        return status;
    }
    Status GetFileModificationTime(const std::string &, uint64_t *time) override
    {
        *time = 0;
        return Status::OK();
    }
    /* CURRENT names a manifest whose own name RocksDB has not synced by then: where the two names
     * may survive a power loss independently, CURRENT would point to nothing. */
    Status RenameFile(const std::string &from, const std::string &to) override
    {
        std::string path = PathOf(to);
        size_t slash = path.rfind('/');
        if (slash != std::string::npos && path.compare(slash, std::string::npos, "/CURRENT") == 0) {
            std::string folder = path.substr(0, slash);
            enum status status = disk_->sync_folder(disk_, folder.c_str());
            if (status != STATUS_OK) return StatusOf(status, folder);
        }
        return StatusOf(disk_->rename(disk_, PathOf(from).c_str(), PathOf(to).c_str()), from);
    }
    Status LockFile(const std::string &, rocksdb::FileLock **lock) override
    {
        *lock = new ShimLock;
        return Status::OK();
    }
    Status UnlockFile(rocksdb::FileLock *lock) override
    {
        delete lock;
        return Status::OK();
    }
    Status GetTestDirectory(std::string *path) override
    {
        *path = "test";
        return Status::OK();
    }
    Status NewLogger(const std::string &, std::shared_ptr<rocksdb::Logger> *result) override
    {
        *result = std::make_shared<ShimLogger>();
        return Status::OK();
    }
    Status GetAbsolutePath(const std::string &name, std::string *path) override
    {
        *path = name;
        return Status::OK();
    }
    Status GetFreeSpace(const std::string &name, uint64_t *bytes) override
    {
        return StatusOf(disk_->free_bytes(disk_, bytes), name);
    }

    /* --- time and names --- */

    uint64_t NowMicros() override
    {
        if (!simulation_) return machine_->NowMicros();
        std::lock_guard<std::mutex> guard(mutex_);
        return ++ticks_;
    }
    uint64_t NowNanos() override { return NowMicros() * 1000; }
    void SleepForMicroseconds(int micros) override
    {
        if (!simulation_) machine_->SleepForMicroseconds(micros);
    }
    Status GetCurrentTime(int64_t *time) override
    {
        *time = static_cast<int64_t>(NowMicros() / 1000000);
        return Status::OK();
    }
    std::string TimeToString(uint64_t time) override { return std::to_string(time); }
    Status GetHostName(char *name, uint64_t size) override
    {
        if (size > 0) name[0] = 0;
        return Status::OK();
    }
    std::string GenerateUniqueId() override
    {
        return simulation_ ? "unum-" + std::to_string(NowMicros()) : machine_->GenerateUniqueId();
    }

    /* --- background work --- */

    void Schedule(void (*function)(void *), void *argument, Priority priority, void *tag,
                  void (*unschedule)(void *)) override
    {
        if (!simulation_) {
            machine_->Schedule(function, argument, priority, tag, unschedule);
            return;
        }
        std::lock_guard<std::mutex> guard(mutex_);
        jobs_.push_back({ function, argument });
        if (running_) return;
        running_ = true;
        if (thread_.joinable()) thread_.join(); /* it has ended; see RunJobs */
        thread_ = std::thread([this] { RunJobs(); });
    }
    int UnSchedule(void *tag, Priority priority) override
    {
        return simulation_ ? 0 : machine_->UnSchedule(tag, priority);
    }
    void StartThread(void (*function)(void *), void *argument) override
    {
        machine_->StartThread(function, argument);
    }
    unsigned int GetThreadPoolQueueLen(Priority priority) const override
    {
        return simulation_ ? 0 : machine_->GetThreadPoolQueueLen(priority);
    }
    void SetBackgroundThreads(int number, Priority priority) override
    {
        if (!simulation_) machine_->SetBackgroundThreads(number, priority);
    }
    int GetBackgroundThreads(Priority priority) override
    {
        return simulation_ ? 1 : machine_->GetBackgroundThreads(priority);
    }
    void IncBackgroundThreadsIfNeeded(int number, Priority priority) override
    {
        if (!simulation_) machine_->IncBackgroundThreadsIfNeeded(number, priority);
    }

    void WaitIdle()
    {
        std::unique_lock<std::mutex> guard(mutex_);
        idle_.wait(guard, [this] { return !running_; });
        if (thread_.joinable()) thread_.join();
    }

  private:
    enum { ENTRIES_MAX = 256 * 1024 };

    struct Job {
        void (*function)(void *);
        void *argument;
    };

    Status Open(const std::string &name, unsigned flags, struct disk_file **ret_file)
    {
        std::string path = PathOf(name);
        if (path.size() > DISK_PATH_BYTES_MAX) return Status::InvalidArgument("too long a path");
        return StatusOf(disk_->open(disk_, path.c_str(), flags, ret_file), name);
    }
    Status OpenToWrite(const std::string &name, bool empty,
                       std::unique_ptr<rocksdb::WritableFile> *result)
    {
        struct disk_file *file = nullptr;
        Status status = Open(name, DISK_OPEN_CREATE, &file);
        uint64_t size = 0;
        if (status.ok()) status = StatusOf(disk_->size(file, &size), name);
        if (status.ok() && empty && size > 0) {
            status = StatusOf(disk_->truncate(file, 0), name);
            size = 0;
        }
        struct disk_file *synced = nullptr;
        if (status.ok() && IsManifest(PathOf(name))) {
            status = Open(name + SYNCED_SUFFIX, DISK_OPEN_CREATE, &synced);
            /* A fresh one needs nothing: CURRENT names no manifest before its first sync. */
            uint64_t stale = 0;
            if (status.ok()) status = StatusOf(disk_->size(synced, &stale), name);
            if (status.ok() && stale > 0) status = WriteSyncedSize(disk_, synced, 0);
        }
        if (status.ok()) {
            result->reset(new ShimWritableFile(disk_, file, PathOf(name), size, synced));
            return status;
        }
        if (synced != nullptr) disk_->close(synced);
        if (file != nullptr) disk_->close(file);
        return status;
    }
    /* The thread's last act under the lock is to say that it no longer runs; a join after that
     * waits for a few instructions only. */
    void RunJobs()
    {
        std::unique_lock<std::mutex> guard(mutex_);
        while (!jobs_.empty()) {
            Job job = jobs_.front();
            jobs_.pop_front();
            guard.unlock();
            job.function(job.argument);
            guard.lock();
        }
        running_ = false;
        idle_.notify_all();
    }

    struct disk *disk_;
    bool simulation_;
    rocksdb::Env *machine_;
    std::mutex mutex_;
    std::condition_variable idle_;
    std::deque<Job> jobs_;
    std::thread thread_;
    bool running_ = false;
    uint64_t ticks_ = 1000000000;
};

/* One thread for one job at a time. Without a thread the job runs on its caller's. */
class Runner {
  public:
    ~Runner()
    {
        {
            std::lock_guard<std::mutex> guard(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        if (thread_.joinable()) thread_.join();
    }
    void Run(void (*function)(void *), void *argument)
    {
        if (!thread_.joinable()) {
            try {
                thread_ = std::thread([this] { Work(); });
            } catch (...) {
                function(argument);
                return;
            }
        }
        {
            std::lock_guard<std::mutex> guard(mutex_);
            function_ = function;
            argument_ = argument;
            busy_.store(true, std::memory_order_relaxed);
        }
        wake_.notify_one();
    }
    bool IsFinished() const { return !busy_.load(std::memory_order_acquire); }
    void Await()
    {
        std::unique_lock<std::mutex> guard(mutex_);
        finished_.wait(guard, [this] { return IsFinished(); });
    }

  private:
    void Work()
    {
        std::unique_lock<std::mutex> guard(mutex_);
        for (;;) {
            wake_.wait(guard, [this] { return stopping_ || function_ != nullptr; });
            if (function_ == nullptr) return;
            void (*function)(void *) = function_;
            void *argument = argument_;
            function_ = nullptr;
            guard.unlock();
            function(argument);
            guard.lock();
            busy_.store(false, std::memory_order_release);
            finished_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    void (*function_)(void *) = nullptr;
    void *argument_ = nullptr;
    std::atomic<bool> busy_ { false };
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace

struct rocksdb_env_shim {
    rocksdb_env_shim(struct disk *disk, bool simulation)
        : env(disk, simulation)
        , handle { &env, false }
    {
    }
    ShimEnv env;
    rocksdb_env_t handle;
    Runner runner;
};

enum status rocksdb_env_shim_create(struct disk *disk, bool simulation,
                                    struct rocksdb_env_shim **ret_shim)
{
    try {
        rocksdb_env_t *sample = rocksdb_create_default_env();
        bool same = sample->rep == rocksdb::Env::Default() && sample->is_default;
        rocksdb_env_destroy(sample);
        if (!same) return STATUS_UNSUPPORTED;
        *ret_shim = new rocksdb_env_shim(disk, simulation);
        return STATUS_OK;
    } catch (const std::bad_alloc &) {
        return STATUS_NO_MEMORY;
    } catch (...) {
        return STATUS_INTERNAL;
    }
}

void rocksdb_env_shim_destroy(struct rocksdb_env_shim *shim)
{
    delete shim;
}

rocksdb_env_t *rocksdb_env_shim_env(struct rocksdb_env_shim *shim)
{
    return &shim->handle;
}

void rocksdb_env_shim_wait_idle(struct rocksdb_env_shim *shim)
{
    shim->env.WaitIdle();
}

void rocksdb_env_shim_run(struct rocksdb_env_shim *shim, void (*function)(void *), void *argument)
{
    shim->runner.Run(function, argument);
}

bool rocksdb_env_shim_is_finished(struct rocksdb_env_shim *shim)
{
    return shim->runner.IsFinished();
}

void rocksdb_env_shim_await(struct rocksdb_env_shim *shim)
{
    shim->runner.Await();
}
