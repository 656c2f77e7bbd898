/** All commands, found by operation code and service action. */
import { assert } from "../../codec/assert.ts";
import type { Command } from "./command.ts";
import { blockAllocationCommands } from "./sbc_allocation.ts";
import { blockReadCommands } from "./sbc_read.ts";
import { sanitizeCommands } from "./sbc_sanitize.ts";
import { blockVerifyCommands } from "./sbc_verify.ts";
import { blockWriteCommands } from "./sbc_write.ts";
import { writeSameCommands } from "./sbc_write_same.ts";
import { copyCommands } from "./spc_copy.ts";
import { inquiryCommands } from "./spc_inquiry.ts";
import { modeCommands } from "./spc_mode.ts";
import { reportCommands } from "./spc_report.ts";
import { reservationCommands } from "./spc_reservations.ts";
import { unitCommands } from "./spc_unit.ts";

export const allCommands: readonly Command[] = [
  ...inquiryCommands,
  ...unitCommands,
  ...modeCommands,
  ...reportCommands,
  ...reservationCommands,
  ...copyCommands,
  ...blockReadCommands,
  ...blockWriteCommands,
  ...blockVerifyCommands,
  ...writeSameCommands,
  ...blockAllocationCommands,
  ...sanitizeCommands,
];

/** VARIABLE LENGTH CDB: the service action stands in bytes 8 and 9 (SPC-5 4.2.3). */
const variableLength = 0x7f;

export class CommandTable {
  readonly commands: readonly Command[];
  readonly #plain: (Command | null)[] = new Array<Command | null>(256).fill(null);
  readonly #byAction = new Map<number, Command>();
  readonly #withActions = new Uint8Array(256);

  constructor(commands: readonly Command[] = allCommands) {
    this.commands = commands;
    for (const command of commands) {
      const { opcode, serviceAction } = command;
      assert(command.usage.length === command.cdbBytes, `${command.name} says which bits of its CDB it uses`);
      if (serviceAction === null) this.#plain[opcode] = command;
      else {
        this.#withActions[opcode] = 1;
        this.#byAction.set((opcode << 16) | serviceAction, command);
      }
    }
  }

  /** null: there is none; see `knowsOpcode`. */
  find(cdb: Uint8Array): Command | null {
    const opcode = cdb[0]!;
    if (this.#withActions[opcode] === 0) return this.#plain[opcode] ?? null;
    const action = opcode === variableLength ? (cdb[8]! << 8) | cdb[9]! : cdb[1]! & 0x1f;
    return this.#byAction.get((opcode << 16) | action) ?? null;
  }

  knowsOpcode(opcode: number): boolean {
    return this.#withActions[opcode] === 1 || this.#plain[opcode] !== null;
  }

  hasActions(opcode: number): boolean {
    return this.#withActions[opcode] === 1;
  }
}
