/** Choices within one test case, repeated by their seed. */

export class Choices {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  u32(): number {
    // splitmix32
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** 0 <= n < end */
  below(end: number): number {
    return Math.floor((this.u32() / 2 ** 32) * end);
  }

  from<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32;
  }
}
