"""Python as programs use it: objects that call each other, numbers, dictionaries and strings, JSON."""

import hashlib
import json
import math
import re


class Body:
    __slots__ = ("x", "y", "vx", "vy", "mass")

    def __init__(self, x, y, vx, vy, mass):
        self.x, self.y, self.vx, self.vy, self.mass = x, y, vx, vy, mass


def orbits(steps):
    bodies = [Body(math.cos(i) * (i + 1), math.sin(i) * (i + 1), -math.sin(i), math.cos(i), 1 / (i + 1)) for i in range(5)]
    for _ in range(steps):
        for i, a in enumerate(bodies):
            for b in bodies[i + 1 :]:
                dx, dy = a.x - b.x, a.y - b.y
                square = dx * dx + dy * dy + 0.01
                pull = 0.001 / (square * math.sqrt(square))
                a.vx -= dx * b.mass * pull
                a.vy -= dy * b.mass * pull
                b.vx += dx * a.mass * pull
                b.vy += dy * a.mass * pull
        for body in bodies:
            body.x += 0.001 * body.vx
            body.y += 0.001 * body.vy
    return sum(0.5 * b.mass * (b.vx * b.vx + b.vy * b.vy) for b in bodies)


class Task:
    def __init__(self, name, priority):
        self.name, self.priority, self.queue, self.done = name, priority, [], 0

    def run(self, scheduler):
        raise NotImplementedError


class Worker(Task):
    def run(self, scheduler):
        packet = self.queue.pop()
        self.done += 1
        packet["hops"] += 1
        packet["data"] = [(value * 5 + self.priority) & 255 for value in packet["data"]]
        scheduler.send((self.name + packet["hops"]) % len(scheduler.tasks), packet)


class Idler(Task):
    def run(self, scheduler):
        packet = self.queue.pop(0)
        self.done += 1
        packet["hops"] += self.priority
        scheduler.send((self.name * 3 + 1) % len(scheduler.tasks), packet)


class Scheduler:
    def __init__(self):
        self.tasks = [(Worker if i % 3 else Idler)(i, i % 5) for i in range(12)]

    def send(self, name, packet):
        self.tasks[name].queue.append(packet)

    def run(self, rounds):
        for i in range(8):
            self.send(i, {"hops": i, "data": list(range(4))})
        for _ in range(rounds):
            for task in self.tasks:
                if task.queue:
                    task.run(self)
        return sum(task.done * (task.name + 1) for task in self.tasks)


def words(count):
    state, parts = 12345, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        parts.append("%s%d" % ("abcdefghijklmnop"[state >> 27], state >> 20 & 511))
    text = " ".join(parts)
    counts = {}
    for word in re.findall(r"[a-z]\d+", text):
        counts[word] = counts.get(word, 0) + 1
    records = [{"word": word, "count": n, "even": n % 2 == 0} for word, n in counts.items()]
    records.sort(key=lambda record: (-record["count"], record["word"]))
    return hashlib.sha256(json.dumps(json.loads(json.dumps(records))).encode()).hexdigest()


print("%.9f" % orbits(3000))
print(Scheduler().run(4000))
print(words(30000))
