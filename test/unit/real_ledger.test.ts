/** What judges the databases on a LUN: it must see a lost, a halved and an invented transaction. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Acknowledged, accountCount, faultsOf, noteOf, transferOf } from "../real/support/ledger.ts";

const test = suite("real_ledger");

function ledger(count: number) {
  const acknowledged = new Acknowledged();
  const sums = Array.from({ length: accountCount }, () => 0);
  const entries: string[][] = [];
  for (let number = 1; number <= count; number++) {
    const transfer = transferOf(0, number);
    acknowledged.note(0, number);
    sums[transfer.from]! -= transfer.amount;
    sums[transfer.to]! += transfer.amount;
    entries.push([...[0, number, transfer.from, transfer.to, transfer.amount].map(String), noteOf(transfer)]);
  }
  return { acknowledged, entries, balances: sums.map((sum, id) => [String(id), String(sum)]) };
}

test("all there -> no fault; the last one not acknowledged -> none either, and it counts from then on", () => {
  const { acknowledged, entries, balances } = ledger(20);
  assert.equal(faultsOf(acknowledged, entries, balances), []);
  acknowledged.last[0] = 19;
  assert.equal(faultsOf(acknowledged, entries, balances), []);
  assert.is(acknowledged.last[0], 20);
});

test("an entry lost, changed, halved or invented -> told", () => {
  const lost = ledger(20);
  lost.acknowledged.note(0, 21);
  assert.equal(faultsOf(lost.acknowledged, lost.entries, lost.balances), ["worker 0: 21 acknowledged, 20 there"]);
  const changed = ledger(20);
  changed.entries[7]![5] = changed.entries[7]![5]!.replace("8", "9");
  assert.match(faultsOf(changed.acknowledged, changed.entries, changed.balances).join(), /0\/8 is not as written/);
  const halved = ledger(20);
  halved.balances[transferOf(0, 20).to]![1] = "1";
  assert.match(faultsOf(halved.acknowledged, halved.entries, halved.balances).join(), /account \d+: 1, not/);
  const invented = ledger(20);
  invented.acknowledged.last[0] = 17;
  assert.match(faultsOf(invented.acknowledged, invented.entries, invented.balances).join(), /20 there, only 17/);
});

test.run();
