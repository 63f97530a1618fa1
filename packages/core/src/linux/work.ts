/** Work that is done for what a guest's memory says: there is only so much of it, whatever that is. */

export class Work {
  private left: number;
  private readonly tooMuch: () => Error;

  /** `most`: units of some 10 to 100 ns. */
  constructor(most: number, tooMuch: () => Error) {
    this.left = most;
    this.tooMuch = tooMuch;
  }

  /** Charges units before they are done. Throws what `tooMuch` gives. */
  charge(units: number): void {
    this.left -= units;
    if (this.left < 0) throw this.tooMuch();
  }
}
