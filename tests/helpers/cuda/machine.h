// A cluster of thread blocks on one CPU thread: every CUDA thread is a fiber that runs until it waits or is
// interrupted. A seed determines which fiber runs next and when a pending copy or product completes.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace attributor::cuda {

// State of the random numbers; splitmix64.
struct Random {
    uint64_t state;
    uint32_t operator()() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
    }
    int below(int n) { return static_cast<int>((uint64_t{(*this)()} * n) >> 32); }
};

constexpr int LANES = 32, MOST_BLOCKS = 2, MOST_THREADS = MOST_BLOCKS * 384, MOST_WARPS = MOST_THREADS / LANES;

struct Thread {
    jmp_buf at;
    ucontext_t start;
    bool started = false, finished = false;
    const char* waits_for = "nothing";
    uint32_t number = 0;  // of the instruction or barrier that it waits for
    int meetings = 0;     // of its warp so far
};

// A warp at one instruction. Two sets of values: a warp may reach the next instruction while some threads still read.
struct Meeting {
    int arrived = 0;
    const char* what = "";
    uint32_t values[2][LANES];
};

// Pending operations, which complete later in any order; one of the second kind is "the next product of a warp".
enum Work { COPY, PRODUCT, KINDS };

class Machine {
  public:
    Random random{0};
    int blocks = 0, per_block = 0;
    int current = 0;  // thread of the cluster
    int64_t first_block = 0;
    Meeting meetings[MOST_WARPS];
    int finished[MOST_BLOCKS];  // threads of each block
    int free_registers[MOST_BLOCKS];
    std::vector<int> short_of_registers;

    // Run `body` on every thread of the cluster. Return the error message, empty without an error.
    std::string run(int block_count, int thread_count, int64_t block, uint64_t seed, std::function<void()> what) {
        blocks = block_count, per_block = thread_count, first_block = block, body = std::move(what);
        random.state = seed * 1000003 + block;
        for (int kind = 0; kind < KINDS; ++kind) {
            work[kind].clear();
            static constexpr int sixteenths[] = {0, 1, 4, 16};
            eager[kind] = sixteenths[random.below(4)];
        }
        policy = random.below(3), in_order = random.below(2), interrupts = random.below(3) * 2;
        for (auto& meeting : meetings) meeting.arrived = 0;
        failure.clear();
        warp = 0;
        for (auto& count : finished) count = 0;
        for (auto& count : free_registers) count = 0;
        short_of_registers.clear();
        for (auto& lanes : ready) lanes = 0;
        for (int t = 0; t < blocks * per_block; ++t) {
            threads[t].finished = false, threads[t].meetings = 0;
            wake(t);
        }
        for (auto& p : priority) p = random.below(1000);
        if (!stacks) reserve_stacks();
        schedule();
        if (!failure.empty())
            for (auto& thread : threads) thread.started = false;  // abandoned at their current place
        return failure;
    }

    Thread& thread() { return threads[current]; }
    int block_of(int t) const { return t / per_block; }
    int in_block(int t) const { return t % per_block; }

    // Sometimes let other threads run, at a place where the hardware may do so too.
    void interrupt() {
        if (random.below(16) < interrupts) {
            wake(current);
            switch_away();
        }
    }
    void wait(const char* what, uint32_t number = 0) {
        thread().waits_for = what;
        thread().number = number;
        switch_away();
    }
    void wake(int t) { ready[t / LANES] |= 1u << t % LANES; }
    void later(Work kind, std::function<void()> what) { work[kind].push_back(std::move(what)); }

    [[noreturn]] void fail(const std::string& message) {
        failure = "thread " + std::to_string(in_block(current)) + " of block " + std::to_string(first_block) + "+" +
                  std::to_string(block_of(current)) + ": " + message;
        _longjmp(scheduler, 1);
    }
    bool ended(int block) const { return finished[block] == per_block; }
    void check(bool good, const char* message) {
        if (!good) fail(message);
    }

  private:
    static constexpr size_t STACK = 1 << 16, GUARD = 4096;

    std::function<void()> body;
    std::vector<Thread> threads = std::vector<Thread>(MOST_THREADS);
    std::vector<std::function<void()>> work[KINDS];
    uint32_t ready[MOST_WARPS];  // the lanes of each warp that can run
    int priority[MOST_WARPS];
    int eager[KINDS], policy, in_order, interrupts, warp = 0;
    jmp_buf scheduler;
    std::string failure;
    char* stacks = nullptr;

    static void enter();

    void reserve_stacks() {
        const size_t all = MOST_THREADS * (STACK + GUARD);
        void* p = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) abort();
        stacks = static_cast<char*>(p);
        for (size_t at = 0; at < all; at += STACK + GUARD) mprotect(stacks + at, GUARD, PROT_NONE);
    }

    __attribute__((noinline)) void switch_away() {
        if (_setjmp(thread().at) == 0) _longjmp(scheduler, 1);
    }

    __attribute__((noinline)) void resume(int t) {
        current = t;
        ready[t / LANES] &= ~(1u << t % LANES);
        Thread& thread = threads[t];
        if (_setjmp(scheduler) != 0) return;
        if (thread.started) _longjmp(thread.at, 1);
        thread.started = true;
        getcontext(&thread.start);
        thread.start.uc_stack.ss_sp = stacks + t * (STACK + GUARD) + GUARD;
        thread.start.uc_stack.ss_size = STACK;
        makecontext(&thread.start, &Machine::enter, 0);
        setcontext(&thread.start);
    }

    __attribute__((noinline)) void perform(Work kind) {
        int i = random.below(static_cast<int>(work[kind].size()));
        std::function<void()> what = std::move(work[kind][i]);
        work[kind].erase(work[kind].begin() + i);
        if (_setjmp(scheduler) == 0) what();
    }

    // Choose a warp that can run, or -1: at random, the same one as long as possible, or by changing priorities.
    int pick_warp() {
        int can[MOST_WARPS], count = 0;
        for (int w = 0; w < blocks * per_block / LANES; ++w)
            if (ready[w]) can[count++] = w;
        if (count == 0) return -1;
        if (policy == 1 && warp >= 0 && ready[warp] && random.below(64)) return warp;
        int best = can[random.below(count)];
        if (policy == 2) {
            if (random.below(256) == 0) priority[best] = random.below(1000);
            for (int i = 0; i < count; ++i)
                if (priority[can[i]] > priority[best]) best = can[i];
        }
        return best;
    }

    int pick_lane(uint32_t lanes) {
        int skip = in_order ? 0 : random.below(__builtin_popcount(lanes));
        for (; skip > 0; --skip) lanes &= lanes - 1;
        return __builtin_ctz(lanes);
    }

    void schedule() {
        while (failure.empty()) {
            warp = pick_warp();
            if (work_now()) continue;
            if (warp < 0) break;
            resume(warp * LANES + pick_lane(ready[warp]));
            if (all_finished() && !(work[COPY].empty() && work[PRODUCT].empty()))
                failure = "the blocks have ended before what they began";
        }
        if (failure.empty() && !all_finished()) failure = "nobody can go on; " + waiting();
    }

    bool all_finished() const {
        for (int block = 0; block < blocks; ++block)
            if (!ended(block)) return false;
        return true;
    }

    // Complete a pending operation, at random or if no thread can run.
    bool work_now() {
        const int first = random.below(KINDS);
        for (int k = 0; k < KINDS; ++k) {
            const Work kind = static_cast<Work>((first + k) % KINDS);
            if (work[kind].empty() || (warp >= 0 && random.below(16) >= eager[kind])) continue;
            perform(kind);
            return true;
        }
        return false;
    }

    std::string waiting() {
        std::map<std::string, std::string> who;
        for (int t = 0; t < blocks * per_block; ++t) {
            if (threads[t].finished) continue;
            std::string& list = who[threads[t].waits_for + (" " + std::to_string(threads[t].number))];
            if (list.size() < 50)
                list += " " + std::to_string(block_of(t)) + ":" + std::to_string(in_block(t));
            else if (list.back() != '.')
                list += "...";
        }
        std::string all;
        for (auto& [what, list] : who) all += "at " + what + ":" + list + "; ";
        return all;
    }
};

inline Machine machine;

inline void Machine::enter() {
    for (;;) {  // fibers are reused
        machine.body();
        machine.thread().finished = true;
        ++machine.finished[machine.block_of(machine.current)];
        machine.switch_away();
    }
}

// The threads of a warp at one instruction: each passes a value and gets the values of all.
inline const uint32_t* meet(const char* what, uint32_t value = 0) {
    const int lane = machine.current % LANES, first = machine.current - lane;
    Meeting& m = machine.meetings[first / LANES];
    machine.interrupt();
    if (m.arrived > 0 && strcmp(m.what, what) != 0) machine.fail(std::string(what) + " while the warp is at " + m.what);
    m.what = what;
    uint32_t* values = m.values[machine.thread().meetings++ & 1];
    values[lane] = value;
    if (++m.arrived < LANES) {
        machine.wait(what);
    } else {
        m.arrived = 0;
        for (int t = first; t < first + LANES; ++t)
            if (t != machine.current) machine.wake(t);
    }
    return values;
}

}  // namespace attributor::cuda
