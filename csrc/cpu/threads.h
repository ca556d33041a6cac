// Support for the work of a call: memory, threads and their floating-point state, and requests to stop.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "../call.h"
#include "kernels.h"

#ifdef ATTRIBUTOR_X86
#include <xmmintrin.h>
#endif

namespace attributor::cpu {

inline int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Uninitialised memory on cache-line boundaries.
template <class T>
class Buffer {
  public:
    explicit Buffer(int64_t size)
        : data_(static_cast<T*>(std::aligned_alloc(64, std::max<int64_t>(64, divide_up(size * sizeof(T), 64) * 64)))) {
        if (!data_) throw std::bad_alloc();
    }
    operator T*() const { return data_.get(); }

  private:
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
};

// A thread's floating-point state while it computes: results too small for a normal float32 become 0, because
// arithmetic on subnormal numbers is a hundred times slower. Also calls the kernels' hooks `enter` and `leave`.
class Entered {
  public:
    explicit Entered(const Kernels& kernels) : leave_(kernels.leave) {
#ifdef ATTRIBUTOR_X86
        saved_ = _mm_getcsr();
        _mm_setcsr(saved_ | _MM_FLUSH_ZERO_ON);
#endif
        if (kernels.enter) kernels.enter();
    }
    ~Entered() {
        if (leave_) leave_();
#ifdef ATTRIBUTOR_X86
        _mm_setcsr(saved_);
#endif
    }
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

  private:
    void (*leave_)();
#ifdef ATTRIBUTOR_X86
    unsigned saved_;
#endif
};

// Whether the work must stop; only the calling thread polls the interrupt, at most five times a second.
class Stop {
  public:
    explicit Stop(Interrupt interrupt)
        : interrupt_(interrupt), caller_(std::this_thread::get_id()), asked_(Clock::now()) {}
    bool requested() {
        if (!stop_.load(std::memory_order_relaxed) && std::this_thread::get_id() == caller_ && interrupt_.asked) {
            const auto now = Clock::now();
            if (now - asked_ > std::chrono::milliseconds(200)) {
                asked_ = now;
                if (interrupt_.asked(interrupt_.context)) request();
            }
        }
        return stop_.load(std::memory_order_relaxed);
    }
    void request() { stop_.store(true, std::memory_order_relaxed); }

  private:
    using Clock = std::chrono::steady_clock;
    Interrupt interrupt_;
    std::thread::id caller_;
    Clock::time_point asked_;
    std::atomic<bool> stop_{false};
};

// Runs work() on up to `threads.count` threads, the calling one among them; rethrows the first exception of any thread.
template <class Work>
class Team {
  public:
    Team(const Kernels& kernels, Stop& stop, const Work& work) : kernels_(kernels), stop_(stop), work_(work) {}

    void run(Threads threads) {
        if (threads.count > 1 && threads.team)
            threads.team([](void* team) { static_cast<Team*>(team)->body(); }, this, unsigned(threads.count), 0);
        else
            start(threads.count);
        if (error_) std::rethrow_exception(error_);
    }

  private:
    void start(int threads) {
        std::vector<std::thread> others;
        try {
            others.reserve(threads);
            for (int t = 1; t < threads; ++t) others.emplace_back([this] { body(); });
        } catch (const std::exception&) {
            // The system cannot start more threads: the started ones and this one do the work.
        }
        body();
        for (std::thread& other : others) other.join();
    }

    void body() {
        try {
            Entered entered(kernels_);
            work_();
        } catch (...) {
            stop_.request();
            std::lock_guard<std::mutex> lock(guard_);
            if (!error_) error_ = std::current_exception();
        }
    }

    const Kernels& kernels_;
    Stop& stop_;
    const Work& work_;
    std::exception_ptr error_;
    std::mutex guard_;
};

template <class Work>
void run_on(Threads threads, const Kernels& kernels, Stop& stop, const Work& work) {
    Team<Work>(kernels, stop, work).run(threads);
}

}  // namespace attributor::cpu
