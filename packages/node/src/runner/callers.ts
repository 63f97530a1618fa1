/**
 * Who waits for a machine, and what is to be done where a slice of it ends: the agent is spoken to there only, and what a callback of the
 * guest completes is answered there.
 */

import { AgentError } from '@braid/core/agent/errors.ts';
import type { Position } from '@braid/core/machine/log.ts';
import type { Watch } from './conditions.ts';
import type { Reports } from './reports.ts';
import { Waits } from './waits.ts';

export class Callers {
  readonly waits = new Waits();
  private readonly reports: Reports;
  private readonly interrupt: () => void;
  private readonly position: () => Position;
  private actions: (() => void)[] = [];
  private answers: (() => void)[] = [];
  /** There is console output that patterns have not been looked for in. */
  private searched = false;

  /** `interrupt` has the machine come to its next slice boundary; `position` is where it stands. */
  constructor(reports: Reports, interrupt: () => void, position: () => Position) {
    this.reports = reports;
    this.interrupt = interrupt;
    this.position = position;
  }

  waiting(id: number): boolean {
    return this.waits.has(id);
  }

  result(id: number, value: unknown): void {
    this.waits.delete(id);
    this.reports.result(id, value);
  }

  fail(id: number, error: unknown): void {
    this.waits.delete(id);
    this.reports.error(id, error);
  }

  failAll(error: unknown): void {
    for (const { id } of this.waits.takeAll()) this.fail(id, error);
  }

  /** Shows console output to those who look for a text in it; they are answered where the slice ends. */
  seeConsole(bytes: Uint8Array): void {
    this.see((watch) => watch.seeConsole(bytes));
    if (!this.waits.see(bytes)) return;
    this.searched = true;
    this.interrupt();
  }

  /** Shows something to those who wait for it; they look where the slice ends. */
  see(show: (watch: Watch) => boolean): void {
    for (const { watch } of this.waits.watched) if (show(watch)) this.interrupt();
  }

  // --- At the next slice boundary

  /** Whether there is something to be done. */
  get due(): boolean {
    return this.actions.length > 0 || this.answers.length > 0 || this.searched;
  }

  /** To be done there. */
  act(action: () => void): void {
    this.actions.push(action);
  }

  /** From a callback: the answer goes out there; that of an agent may be an error. */
  answer(id: number, value: () => unknown): void {
    this.answers.push(() => {
      this.waits.delete(id);
      const outcome = value();
      if (outcome instanceof AgentError) this.fail(id, outcome);
      else this.result(id, outcome);
    });
    this.interrupt();
  }

  /** Does all that; false when there is nothing. */
  settle(): boolean {
    if (!this.due) return false;
    this.giveAnswers();
    this.takeActions();
    return true;
  }

  giveAnswers(): void {
    for (const answer of this.answers.splice(0)) answer();
    if (!this.searched) return;
    this.searched = false;
    for (const { id } of this.waits.takeMatched()) this.result(id, this.position());
  }

  takeActions(): void {
    for (const action of this.actions.splice(0)) action();
  }

  dropActions(): void {
    this.actions = [];
  }
}
