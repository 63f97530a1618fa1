/** Modules made by the emitter, compiled and run by the host. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { type Expr, i32, i64 } from './expr.ts';
import { type Fn, type Local, Module } from './module.ts';

type Args = ('i32' | 'i64')[];

function make(
  params: Args,
  result: 'i32' | 'i64',
  body: (f: Fn, ...p: Local[]) => void,
): (...args: unknown[]) => unknown {
  const module = new Module();
  module.export('f', module.function('f', params, [result], body));
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
  return exports.f as (...args: unknown[]) => unknown;
}

describe('control flow', () => {
  test('if, with and without an else, nested, and of a constant', () => {
    const f = make(['i32'], 'i32', (f, x) => {
      const y = f.local('i32');
      f.if(
        i32.gtS(x, 10),
        () =>
          f.if(
            i32.gtS(x, 20),
            () => f.set(y, i32.const(3)),
            () => f.set(y, i32.const(2)),
          ),
        () => f.if(i32.eqz(x), () => f.set(y, i32.const(-1))),
      );
      f.if(
        i32.const(0),
        () => f.unreachable(),
        () => f.set(y, i32.add(y, 100)),
      );
      f.if(i32.const(1), () => f.set(y, i32.add(y, 1000)));
      f.return(y);
    });
    assert.deepEqual(
      [0, 5, 11, 21].map((x) => f(x)),
      [1099, 1100, 1102, 1103],
    );
  });

  test('an if needs an i32', () => {
    assert.throws(() => make(['i64'], 'i32', (f, x) => f.if(x, () => {})), TypeError);
  });

  test('blocks, loops and branches over several levels', () => {
    // The first n >= 2 that divides x, or 0 when x is prime: two nested loops would do as well, and that is the point.
    const f = make(['i32'], 'i32', (f, x) => {
      const n = f.let(i32.const(2));
      f.block((prime) => {
        f.block((found) => {
          f.loop((next) => {
            f.brIf(prime, i32.gtU(i32.mul(n, n), x));
            f.if(i32.eqz(i32.remU(x, n)), () => f.br(found));
            f.set(n, i32.add(n, 1));
            f.br(next);
          });
        });
        f.return(n);
      });
      f.return(i32.const(0));
    });
    assert.deepEqual(
      [7, 9, 35, 97, 91].map((x) => f(x)),
      [0, 3, 5, 0, 7],
    );
  });

  test('while tests before each turn, and its condition may have a statement of its own', () => {
    const f = make(['i64'], 'i64', (f, x) => {
      const sum = f.local('i64');
      f.while(
        () => f.let(i64.gtS(x, 0)),
        () => {
          f.set(sum, i64.add(sum, x));
          f.set(x, i64.sub(x, 1));
        },
      );
      f.return(sum);
    });
    assert.equal(f(100n), 5050n);
    assert.equal(f(0n), 0n);
    assert.equal(f(-5n), 0n);
  });
});

describe('switch', () => {
  test('every handler, and otherwise for all other indices', () => {
    for (const count of [1, 2, 7, 300]) {
      const f = make(['i32'], 'i32', (f, x) => {
        const y = f.let(i32.const(-1));
        f.switch(
          x,
          count,
          (i) => f.set(y, i32.const(i * 3)),
          () => f.set(y, i32.const(-2)),
        );
        f.return(y);
      });
      for (let i = 0; i < count; i++) assert.equal(f(i), i * 3);
      for (const other of [count, count + 1, -1, 0x7fff_ffff, -0x8000_0000]) assert.equal(f(other), -2);
    }
  });

  test('without otherwise, and with branches out of handlers', () => {
    const f = make(['i32'], 'i32', (f, x) => {
      const y = f.local('i32');
      f.block((out) => {
        f.switch(x, 3, (i) => {
          f.set(y, i32.const(i + 1));
          if (i === 1) f.br(out);
        });
        f.set(y, i32.add(y, 10));
      });
      f.return(y);
    });
    assert.deepEqual(
      [0, 1, 2, 3].map((x) => f(x)),
      [11, 2, 13, 10],
    );
  });

  test('in a loop, as an interpreter has it', () => {
    // Nibbles of a program: 0 ends, 1 adds one, 2 doubles.
    const f = make(['i64'], 'i64', (f, program) => {
      const value = f.let(i64.const(1));
      f.loop((next) => {
        const op = f.let(i32.wrap(i64.and(program, 15)));
        f.set(program, i64.shrU(program, 4));
        f.switch(op, 3, (i) => {
          if (i === 0) f.return(value);
          if (i === 1) f.set(value, i64.add(value, 1));
          if (i === 2) f.set(value, i64.shl(value, 1));
          f.br(next);
        });
      });
      f.return(i64.const(-1));
    });
    assert.equal(f(0x2121n), 1n * 2n * 2n + 4n - 1n + 3n);
    assert.equal(f(0x3n), -1n);
  });
});

describe('locals', () => {
  test('a scope gives its locals to the next one, of the same type only, and not before it ends', () => {
    make(['i32'], 'i32', (f, x) => {
      let first: Local | undefined;
      f.scope(() => {
        first = f.local('i64');
        const inner: Local[] = [];
        f.scope(() => {
          inner.push(f.local('i64'));
          assert.notEqual(inner[0], first);
        });
        assert.equal(f.local('i64'), inner[0]);
      });
      f.scope(() => {
        assert.equal(f.local('i32').type, 'i32');
        const reused = [f.local('i64'), f.local('i64'), f.local('i64')];
        assert.equal(new Set(reused).size, 3);
        assert.ok(reused.includes(first!));
      });
      f.return(x);
    });
  });

  test('values in nested scopes do not disturb each other', () => {
    /** A tree of scopes, each adding what it holds before and after its children; a model computes the same. */
    type Tree = { value: number; children: readonly Tree[] };
    const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
      tree: fc.record({
        value: fc.nat(1000),
        children: fc.oneof({ maxDepth: 4 }, fc.constant<readonly Tree[]>([]), fc.array(tie('tree'), { maxLength: 3 })),
      }),
    }));
    const model = ({ value, children }: Tree): number => children.reduce((sum, child) => sum + model(child), 2 * value);
    fc.assert(
      fc.property(tree, (tree) => {
        const f = make([], 'i32', (f) => {
          const sum = f.local('i32');
          const write = ({ value, children }: Tree): void =>
            f.scope(() => {
              const held = f.let(i32.const(value));
              const wide = f.let(i64.const(value));
              f.set(sum, i32.add(sum, held));
              children.forEach(write);
              f.set(sum, i32.add(sum, i32.wrap(wide)));
            });
          write(tree);
          f.return(sum);
        });
        assert.equal(f(), model(tree));
      }),
      runs(100),
    );
  });

  test('assignments of another type are refused', () => {
    assert.throws(() => make([], 'i32', (f) => f.set(f.local('i64'), i32.const(1))), TypeError);
    assert.throws(() => make([], 'i32', (f) => void f.tee(f.local('i32'), i64.const(1))), TypeError);
  });
});

describe('memory', () => {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
  const bytes = new Uint8Array(memory.buffer);
  const view = new DataView(memory.buffer);
  const build = (params: Args, result: 'i32' | 'i64', body: (f: Fn, ...p: Local[]) => Expr) => {
    const module = new Module();
    module.importMemory('host', 'memory', { min: 2, max: 2, shared: true });
    module.export(
      'f',
      module.function('f', params, [result], (f, ...p) => f.return(body(f, ...p))),
    );
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), { host: { memory } });
    return instance.exports.f as (...args: unknown[]) => unknown;
  };

  test('loads of every size, with constant offsets as far as they go', () => {
    view.setBigUint64(0x1_8000, 0xf1e2_d3c4_b5a6_9788n, true);
    const at = 0x1_8000;
    const offset = 0x1_7ff0;
    const loads: [typeof i64.load, bigint][] = [
      [i64.load8U, 0x88n],
      [i64.load8S, -0x78n],
      [i64.load16U, 0x9788n],
      [i64.load16S, -0x6878n],
      [i64.load32U, 0xb5a6_9788n],
      [i64.load32S, -0x4a59_6878n],
      [i64.load, -0x0e1d_2c3b_4a59_6878n],
    ];
    for (const [load, expected] of loads) {
      assert.equal(build(['i32'], 'i64', (_, a) => load(a, offset))(at - offset), expected);
    }
    assert.equal(build(['i32'], 'i32', (_, a) => i32.load16S(a))(at), -0x6878);
    assert.equal(build(['i32'], 'i32', (_, a) => i32.load8U(a))(at), 0x88);
  });

  test('stores of every size leave their neighbours alone', () => {
    for (const size of [1, 2, 4, 8] as const) {
      bytes.fill(0xee, 0, 64);
      build(['i32', 'i64'], 'i32', (f, a, value) => {
        f.store(size, a, value, 16);
        if (size < 8) f.store(size, a, i32.wrap(value), 32);
        return i32.const(0);
      })(0, 0x1122_3344_5566_7788n);
      for (const base of size < 8 ? [16, 32] : [16]) {
        const low = 0x1122_3344_5566_7788n & ((1n << BigInt(8 * size)) - 1n);
        let stored = 0n;
        for (let n = size - 1; n >= 0; n--) stored = (stored << 8n) | BigInt(bytes[base + n]!);
        assert.equal(stored, low);
        assert.equal(bytes[base - 1], 0xee);
        assert.equal(bytes[base + size], 0xee);
      }
    }
    const tooWide = (f: Fn) => f.store(8, i32.const(0), i32.const(0));
    assert.throws(() => make([], 'i32', tooWide), TypeError);
  });

  test('fill, copy and atomics', () => {
    bytes.fill(0, 0, 256);
    const f = build(['i32'], 'i32', (f, a) => {
      f.memoryFill(a, i32.const(0x5a), i32.const(8));
      f.memoryCopy(i32.add(a, 16), a, i32.const(4));
      f.drop(i32.atomicAdd(a, 1, 32));
      f.drop(i32.atomicOr(a, 0xf0, 32));
      return i32.atomicAnd(a, 0xf0, 32);
    });
    assert.equal(f(64), 0xf1);
    assert.deepEqual([...bytes.subarray(64, 73)], [...Array(8).fill(0x5a), 0]);
    assert.deepEqual([...bytes.subarray(80, 85)], [0x5a, 0x5a, 0x5a, 0x5a, 0]);
    assert.equal(bytes[96], 0xf0);
  });
});

describe('modules', () => {
  test('functions that call each other, before one is defined, and imported ones', () => {
    const module = new Module();
    const seen: number[] = [];
    const note = module.importFunction('host', 'note', ['i32'], []);
    const odd = module.declare('odd', ['i32'], ['i32']);
    const even = module.function('even', ['i32'], ['i32'], (f, n) => {
      f.do(note, n);
      f.if(i32.eqz(n), () => f.return(i32.const(1)));
      f.return(f.call(odd, i32.sub(n, 1)));
    });
    module.define(odd, (f, n) => {
      f.if(i32.eqz(n), () => f.return(i32.const(0)));
      f.return(f.call(even, i32.sub(n, 1)));
    });
    module.export('even', even);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), {
      host: { note: (n: number) => seen.push(n) },
    });
    const call = instance.exports.even as (n: number) => number;
    assert.equal(call(6), 1);
    assert.equal(call(7), 0);
    assert.deepEqual(seen, [6, 4, 2, 0, 7, 5, 3, 1]);
  });

  test('mistakes of the caller', () => {
    const module = new Module();
    const f = module.function('f', ['i32'], [], () => {});
    assert.throws(() => module.importFunction('host', 'late', [], []), /imports come before/);
    assert.throws(() => module.function('g', [], [], (g) => g.do(f)), /0 arguments/);
    assert.throws(() => module.function('h', [], [], (h) => h.do(f, i64.const(1))), /argument 0 is i64/);
    assert.throws(() => module.function('k', [], [], (k) => k.drop(k.call(f, i32.const(1)))), /0 results/);
    const open = new Module();
    open.declare('nobody', [], []);
    assert.throws(() => open.encode(), /nobody is declared and never defined/);
  });

  test('a fork has the imports and types of its origin, and functions of its own', () => {
    const origin = new Module();
    const area = origin.importGlobal('host', 'area', 'i32');
    const twice = origin.importFunction('host', 'twice', ['i32'], ['i32']);
    const run = (module: Module) => {
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), {
        host: { area: 20, twice: (n: number) => 2 * n, more: () => 3 },
      });
      return (exports.f as (n: number) => number)(1);
    };
    const write = (module: Module, value: (n: Expr) => Expr) => {
      module.export(
        'f',
        module.function('f', ['i32'], ['i32'], (f, n) => f.return(f.call(twice, value(n)))),
      );
      return module;
    };
    const first = write(origin.fork(), (n) => i32.add(area, n));
    const grown = origin.fork();
    grown.importFunction('host', 'more', [], ['i32']);
    const second = write(grown.fork(), (n) => i32.sub(area, n));
    write(origin, (n) => n);
    assert.deepEqual([first, second, origin].map(run), [42, 38, 2]);
  });

  test('function names are there for profilers', () => {
    const module = new Module();
    module.export(
      'trap',
      module.function('a_name_to_find', [], [], (f) => f.unreachable()),
    );
    const compiled = new WebAssembly.Module(module.encode());
    assert.equal(WebAssembly.Module.customSections(compiled, 'name').length, 1);
    const { trap } = new WebAssembly.Instance(compiled).exports as { trap(): void };
    try {
      trap();
      assert.fail('it traps');
    } catch (error) {
      assert.match((error as Error).stack!, /a_name_to_find/);
    }
  });
});

test('hints are where the conditions are, and change nothing', () => {
  const module = new Module();
  const imported = module.importFunction('host', 'nothing', [], []);
  module.function('without', [], [], (f) => f.do(imported));
  const body = (f: Fn, x: Local) => {
    const y = f.local('i64');
    f.if(
      i32.gtS(x, 0),
      () => f.set(y, i64.const(1)),
      () => f.set(y, i64.const(2)),
      'likely',
    );
    f.if(i32.eq(x, 5), () => f.set(y, i64.const(3)), undefined, 'unlikely');
    f.return(y);
  };
  module.export('f', module.function('f', ['i32'], ['i64'], body));
  const compiled = new WebAssembly.Module(module.encode());
  assert.equal(WebAssembly.Module.customSections(compiled, 'metadata.code.branch_hint').length, 1);
  const { exports } = new WebAssembly.Instance(compiled, { host: { nothing: () => {} } });
  const f = exports.f as (x: number) => bigint;
  assert.deepEqual([-1, 1, 5].map(f), [2n, 1n, 3n]);
});
