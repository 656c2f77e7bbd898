/** The mode parameters that initiators may change, one set per logical unit, not saved (SPC-5 7.5). */
export class ModeParameters {
  /** Control mode page, D_SENSE: sense data in descriptor format. */
  descriptorSense = false;
  /** Control mode page, SWP: software write protect. */
  softwareWriteProtect = false;
  /** Control mode page, TAS: tasks aborted by another nexus end with TASK ABORTED. */
  taskAbortedStatus = false;

  reset(): void {
    this.descriptorSense = false;
    this.softwareWriteProtect = false;
    this.taskAbortedStatus = false;
  }
}
