// What the rows of `real` run in the guest, and the disk that brings it there: scripts, their data, a repository.
//
// All data are generated, and the same every time. The guest mounts the disk on /mnt; `sh /mnt/run NAME` runs a row between
// markers, and prints a checksum of what it wrote.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findPeer, quick } from '../harness.ts';
import { ROOT, type Scratch } from '../lib/guest.ts';

/** A row: what its script is called, what the report calls it, and the script. */
export interface Command {
  readonly id: string;
  readonly name: string;
  readonly script: string;
}

export const BUSYBOX: readonly Command[] = [
  { id: 'gzip', name: 'busybox gzip', script: 'gzip -c /tmp/text' },
  { id: 'sort', name: 'busybox sort', script: 'sort /tmp/lines' },
  {
    id: 'awk',
    name: 'busybox awk',
    script: `awk '{ for (i = 1; i <= NF; i++) { n[$i]++; chars += length($i) } if ($0 ~ /(ing|tion) [a-m]/) hits++ }
  END { for (w in n) { k++; if (n[w] > most) most = n[w] } print NR, k, most, chars, hits }' /tmp/prose`,
  },
  {
    id: 'find',
    name: 'busybox find',
    script: 'for i in 1 2 3 4 5 6; do find /tmp/tree -type f -name "*7*" -size -2; done',
  },
];

export const DEBIAN: readonly Command[] = [
  { id: 'python-start', name: 'python3 -c pass, 5 times', script: 'for i in 1 2 3 4 5; do python3 -c pass; done' },
  { id: 'python', name: 'python3 script', script: 'python3 /mnt/mix.py' },
  { id: 'perl', name: 'perl script', script: 'perl /mnt/mix.pl' },
  { id: 'gcc', name: 'gcc -O2 of one file', script: 'cd /tmp && gcc -O2 -c -o unit.o /mnt/unit.c && cat unit.o' },
  { id: 'sqlite', name: 'sqlite3', script: 'sqlite3 /tmp/bench.db </mnt/mix.sql' },
  {
    id: 'git',
    name: 'git status and log',
    script: 'cd /mnt/repository && git="git -c safe.directory=* --no-pager" && $git status && $git log --stat',
  },
  { id: 'apt', name: 'apt-get -s install', script: 'apt-get -s install build-essential' },
  { id: 'node', name: 'node script', script: 'node /mnt/mix.js' },
  { id: 'luajit', name: 'luajit script', script: 'luajit /mnt/mix.lua' },
];

const RUN = `echo "<$1>"
sh "/mnt/rows/$1" >/tmp/out 2>&1
status=$?
echo "</$1 $status>"
[ $status = 0 ] || tail -n 5 /tmp/out
echo "sum $(md5sum </tmp/out)"
`;

/** Before the rows of the default guest: data into memory, and a tree of files. */
const PREPARE = `cp /mnt/text /mnt/prose /mnt/lines /tmp
for i in 0 1 2 3 4 5 6 7 8 9; do for j in 0 1 2 3; do
  mkdir -p /tmp/tree/$i/$j
  for k in 0 1 2 3 4 5 6 7 8 9; do for l in 0 1 2 3 4 5 6 7 8 9; do : >/tmp/tree/$i/$j/file-$k$l; done; done
done; done
`;

/** 100 programs, one after the other: how many regions are new is asked after the third. */
const EXEC = `i=0
while [ $i -lt 100 ]; do /bin/true; i=$((i + 1)); [ $i = 3 ] && echo "<warm>"; done
echo "<done>"
`;

/** Numbers that are the same every time. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state >>> 8;
  }
}

const SYLLABLES = 'an be con da el for ga in ja ker lo ment na or per ra sta tion un ver ing wor xi yet zo'.split(' ');

/** Lines of words, frequent and rare ones. */
export function prose(bytes: number): string {
  const random = numbers(1);
  const next = (below: number) => random.next().value % below;
  const words = Array.from({ length: 4000 }, () =>
    Array.from({ length: 1 + next(3) }, () => SYLLABLES[next(SYLLABLES.length)]).join(''),
  );
  const lines: string[] = [];
  for (let size = 0; size < bytes; ) {
    const line = Array.from({ length: 6 + next(8) }, () => words[next(1 + next(words.length))]).join(' ');
    lines.push(line);
    size += line.length + 1;
  }
  return `${lines.join('\n')}\n`;
}

function lines(count: number): string {
  const random = numbers(2);
  const line = () => {
    const { value } = random.next();
    return `${SYLLABLES[value % SYLLABLES.length]}-${value.toString(36)} ${value % 1000}`;
  };
  return `${Array.from({ length: count }, line).join('\n')}\n`;
}

/** One file of C, of the kind that fills projects: structures, tables, state machines, loops over arrays. */
function unit(functions: number): string {
  const part = (n: number) => `
struct record${n} { int kind; unsigned count; double weight; char name[${16 + (n % 4) * 8}]; struct record${n} *next; };

static unsigned scan${n}(const char *text, size_t length) {
    unsigned state = ${n}u, found = 0;
    for (size_t i = 0; i < length; i++) {
        switch (state & 7) {
        case 0: state = text[i] == '${'abcdefgh'[n % 8]}' ? state + 1 : state ^ 2; break;
        case 1: state += isdigit((unsigned char)text[i]) ? 3 : 1; break;
        case 2: found += text[i] > ' '; state = state * 5 + ${n}; break;
        case 3: state = (state << 3) | (state >> 29); break;
        case 4: if (i + 4 < length && memcmp(text + i, "item", 4) == 0) found += 2; state++; break;
        case 5: state -= text[i]; break;
        default: state = found ^ (unsigned)text[i]; break;
        }
    }
    return found * ${n + 3}u + state;
}

static struct record${n} *insert${n}(struct record${n} *list, int kind, const char *name, double weight) {
    struct record${n} **at = &list, *made;
    while (*at && strcmp((*at)->name, name) < 0) at = &(*at)->next;
    if (*at && strcmp((*at)->name, name) == 0) { (*at)->count++; (*at)->weight += weight; return list; }
    if (!(made = calloc(1, sizeof *made))) abort();
    made->kind = kind; made->weight = weight; made->next = *at;
    snprintf(made->name, sizeof made->name, "%s-%d", name, kind);
    *at = made;
    return list;
}

double run${n}(const char *text, double *matrix, int size) {
    struct record${n} *list = NULL;
    double sum = 0;
    char name[12];
    for (int i = 0; i < size; i++) {
        for (int j = 0; j < size; j++) {
            double cell = 0;
            for (int k = 0; k < size; k++) cell += matrix[i * size + k] * matrix[k * size + j] ${n % 2 ? '+' : '-'} ${n}.5;
            sum += cell > ${n} ? cell : -cell / ${n + 2};
        }
        snprintf(name, sizeof name, "n%d", i * ${n + 7} % 31);
        list = insert${n}(list, i % ${(n % 5) + 2}, name, sum);
    }
    for (struct record${n} *r = list; r; r = r->next) sum += r->weight * r->count + r->kind;
    return sum + scan${n}(text, strlen(text));
}
`;
  const indices = Array.from({ length: functions }, (_, n) => n);
  const table = indices.map((n) => `    { "part ${n}", run${n} },`).join('\n');
  return `#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
${indices.map(part).join('')}
static const struct { const char *name; double (*run)(const char *, double *, int); } parts[] = {
${table}
};

int main(int argc, char **argv) {
    double matrix[64] = { 1, 2, 3 };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        printf("%s %f\\n", parts[i].name, parts[i].run(argc > 1 ? argv[1] : "items", matrix, 8));
    return 0;
}
`;
}

/** A history as `git fast-import` reads it: 2000 files in 50 folders, then changes to some of them. */
function history(commits: number): string {
  const random = numbers(3);
  const text = prose(64 * 1024).split('\n');
  const data = (content: string) => `data ${Buffer.byteLength(content)}\n${content}\n`;
  const file = (n: number) => {
    const from = random.next().value % (text.length - 40);
    const content = text.slice(from, from + 10 + (n % 30)).join('\n');
    return `M 644 inline folder${n % 50}/part${n % 7}/file${n}.txt\n${data(`${content}\n`)}`;
  };
  const out: string[] = [];
  for (let commit = 0; commit < commits; commit++) {
    const who = `Somebody <somebody@example.org> ${1_700_000_000 + commit * 3600} +0000`;
    out.push(`commit refs/heads/main\ncommitter ${who}\n${data(`Change ${commit}\n`)}`);
    const files = commit === 0 ? 2000 : 8;
    for (let i = 0; i < files; i++) out.push(file(commit === 0 ? i : random.next().value % 2000));
  }
  return out.join('');
}

function must(command: string, args: readonly string[], input?: string): void {
  const env = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
  const options = { encoding: 'utf8', env, ...(input !== undefined && { input }) } as const;
  const { status, stderr, error } = spawnSync(command, args, options);
  if (status !== 0) throw new Error(`${command} ${args[0]} failed: ${error?.message ?? stderr}`);
}

/** Copies a disk, holes and all: each machine finds it as it was made. */
export function copyDisk(from: string, to: string): string {
  must('cp', ['--sparse=always', from, to]);
  return to;
}

/** Whether this host can make what a command works on. */
export const available = (command: Command): boolean => command.id !== 'git' || findPeer('git') !== undefined;

/** Makes the disk in the scratch folder; its path, or undefined, with a note, where there is no mke2fs. */
export function makeWorkDisk(scratch: Scratch): string | undefined {
  const mke2fs = findPeer('mke2fs');
  if (!mke2fs) return undefined;
  const folder = join(scratch.folder, 'work');
  cpSync(join(ROOT, 'bench', 'real', 'guest'), folder, { recursive: true });
  mkdirSync(join(folder, 'rows'));
  const write = (name: string, content: string) => writeFileSync(join(folder, name), content);
  for (const { id, script } of [...BUSYBOX, ...DEBIAN]) write(join('rows', id), `${script}\n`);
  write('run', RUN);
  write('prepare', PREPARE);
  write('exec', EXEC);
  write('text', prose(quick ? 2 << 20 : 8 << 20));
  write('prose', prose(quick ? 1 << 20 : 2 << 20));
  write('lines', lines(quick ? 80_000 : 320_000));
  write('unit.c', unit(quick ? 4 : 14));
  if (findPeer('git')) {
    const repository = join(folder, 'repository');
    must('git', ['init', '-q', '-b', 'main', repository]);
    must('git', ['-C', repository, 'fast-import', '--quiet'], history(60));
    must('git', ['-C', repository, 'reset', '-q', '--hard']);
  }
  const disk = join(scratch.folder, 'work.img');
  must(mke2fs, ['-q', '-t', 'ext4', '-d', folder, disk, '128M']);
  return disk;
}
