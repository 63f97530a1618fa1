/**
 * `pause` (Zihintpause): the hart stands still for a while. It takes `pauseSteps` of guest time, but never leads past `deadline`, where
 * something in the machine happens by itself; and after `pausesLeft` of them the run is over, and another hart may have its turn.
 *
 * A pause retires like any instruction: a step, and no more. The time that it adds makes the budget end earlier where that was to end
 * at the deadline. All of it is a function of the machine's state, so a run that stops anywhere comes to the same.
 */

import { EXIT } from '../../hart/state.ts';
import { type FunctionRef, i64, select } from '../../wasm/index.ts';
import { attention, type Library, stepsLeft } from './context.ts';

/** (): what the instruction does. Where that ends the run, the budget is another one afterwards. */
export function addPause(lib: Library): FunctionRef {
  const { module, w } = lib;
  return module.function('pause', [], [], (f) => {
    const left = f.let(stepsLeft(lib));
    const now = f.let(i64.sub(w.get('clockEnd'), left));
    const room = f.let(i64.sub(w.get('deadline'), now));
    f.if(i64.ltS(room, 0), () => f.set(room, i64.const(0)));
    const gap = f.let(select(i64.ltU(room, w.get('pauseSteps')), room, w.get('pauseSteps')));
    w.count(f, 'gained', gap);
    w.count(f, 'clockEnd', gap);
    // Steps that still fit before the deadline.
    f.set(room, i64.sub(room, gap));
    f.if(i64.gtU(left, room), () => {
      const lost = f.let(i64.sub(left, room));
      w.count(f, 'cut', lost);
      w.set(f, 'clockEnd', i64.sub(w.get('clockEnd'), lost));
      w.set(f, 'stepsEnd', i64.sub(w.get('stepsEnd'), lost));
      f.if(
        i64.eqz(w.get('heldBudget')),
        () => w.set(f, 'budget', room),
        () => w.set(f, 'heldBudget', room),
      );
    });
    const rest = f.let(i64.sub(w.get('pausesLeft'), 1));
    w.set(f, 'pausesLeft', rest);
    f.if(i64.eqz(rest), () => {
      w.set(f, 'exit', i64.const(EXIT.pause));
      attention(lib, f);
    });
    f.if(i64.geS(i64.add(now, gap), w.get('timeLimit')), () => attention(lib, f));
  });
}
