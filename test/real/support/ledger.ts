/**
 * What a database under test is filled with: a ledger of transfers between accounts, written by several workers. Each transaction
 * writes one entry and changes two balances, so that a transaction that is there by half shows; the numbers of the acknowledged ones
 * are kept here, outside the database and the LUN.
 */

export const workerCount = 4;
export const accountCount = 64;
/** Makes entries large enough that pages fill, split and are destaged. */
const noteRepeats = 24;

export interface Transfer {
  readonly worker: number;
  readonly number: number;
  readonly from: number;
  readonly to: number;
  readonly amount: number;
}

export function transferOf(worker: number, number: number): Transfer {
  const from = (number * 7 + worker * 13) % accountCount;
  const to = (from + 1 + ((number * 5 + worker) % (accountCount - 1))) % accountCount;
  return { worker, number, from, to, amount: 1 + ((number * 31 + worker) % 1000) };
}

export const noteOf = ({ worker, number }: Transfer): string => `${worker}/${number};`.repeat(noteRepeats);

/** Both databases understand these. */
export const schemaSql = [
  "CREATE TABLE account (id integer PRIMARY KEY, balance bigint NOT NULL);",
  "CREATE TABLE entry (worker integer, number integer, source integer, target integer, amount bigint, note text, PRIMARY KEY (worker, number));",
  "CREATE INDEX entry_amount ON entry (amount);",
  ...Array.from({ length: accountCount }, (_, id) => `INSERT INTO account VALUES (${id}, 0);`),
];

/** Rows are always locked in the order of their ids: no deadlocks. */
export function transactionSql(transfer: Transfer): string[] {
  const { worker, number, from, to, amount } = transfer;
  const changes = [
    { id: from, by: -amount },
    { id: to, by: amount },
  ].sort((a, b) => a.id - b.id);
  return [
    "BEGIN;",
    `INSERT INTO entry VALUES (${worker}, ${number}, ${from}, ${to}, ${amount}, '${noteOf(transfer)}');`,
    ...changes.map(({ id, by }) => `UPDATE account SET balance = balance + (${by}) WHERE id = ${id};`),
    "COMMIT;",
  ];
}

/** The queries whose answers `faultsOf` judges. */
export const entriesSql = "SELECT worker, number, source, target, amount, note FROM entry ORDER BY worker, number;";
export const balancesSql = "SELECT id, balance FROM account ORDER BY id;";

/** Per worker the number of the last acknowledged transaction; 0: none. */
export class Acknowledged {
  readonly last: number[] = Array.from({ length: workerCount }, () => 0);
  total = 0;

  note(worker: number, number: number): void {
    if (number !== (this.last[worker] ?? 0) + 1)
      throw new Error(`worker ${worker}: ${number} after ${this.last[worker]}`);
    this.last[worker] = number;
    this.total++;
  }
}

/** What is wrong; empty when every acknowledged transaction is there, whole, with at most one more for each worker. */
export function faultsOf(acknowledged: Acknowledged, entries: string[][], balances: string[][]): string[] {
  const faults: string[] = [];
  const expected: number[] = Array.from({ length: accountCount }, () => 0);
  const found: number[] = Array.from({ length: workerCount }, () => 0);
  for (const [worker, number, source, target, amount, note] of entries) {
    const transfer = transferOf(Number(worker), Number(number));
    const told = [source, target, amount, note].join();
    if (told !== [transfer.from, transfer.to, transfer.amount, noteOf(transfer)].join())
      faults.push(`entry ${worker}/${number} is not as written`);
    if (Number(number) !== ++found[transfer.worker]!) faults.push(`entry ${worker}/${number} comes out of turn`);
    expected[transfer.from]! -= transfer.amount;
    expected[transfer.to]! += transfer.amount;
  }
  for (const [worker, last] of acknowledged.last.entries()) {
    const there = found[worker]!;
    if (there < last) faults.push(`worker ${worker}: ${last} acknowledged, ${there} there`);
    if (there > last + 1) faults.push(`worker ${worker}: ${there} there, only ${last} acknowledged`);
    // The one under way at the end was committed after all: it counts from now on.
    while (acknowledged.last[worker]! < there && there === last + 1) acknowledged.note(worker, there);
  }
  if (balances.length !== accountCount) faults.push(`${balances.length} accounts`);
  for (const [id, balance] of balances) {
    if (Number(balance) !== expected[Number(id)]) faults.push(`account ${id}: ${balance}, not ${expected[Number(id)]}`);
  }
  return faults;
}
