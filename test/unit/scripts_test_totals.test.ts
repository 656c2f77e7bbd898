import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readTotals } from "../../scripts/test_totals.ts";

const test = suite("scripts_test_totals");

const uvu = (total: number, passed: number, skipped: number) =>
  ` name  • •   (${passed} / ${total})\n\n  Total:     ${total}\n  Passed:    ${passed}\n  Skipped:   ${skipped}\n  Duration:  1.98ms\n\n`;
const ended = { counted: "totals", code: 0, cause: null } as const;

test("totals at the end -> counted", () => {
  assert.equal(readTotals({ ...ended, text: uvu(3, 3, 0) }), { passed: 3, failed: 0, skipped: 0, why: null });
  assert.equal(readTotals({ ...ended, text: uvu(3, 3, 2) }), { passed: 3, failed: 0, skipped: 2, why: null });
  assert.equal(readTotals({ ...ended, code: 1, text: uvu(5, 3, 0) }), { passed: 3, failed: 2, skipped: 0, why: null });
});

test("a run that does not end well -> at least one failed", () => {
  const runs = [
    { ...ended, text: "" },
    { ...ended, text: "Total: 3 Passed: 3 Skipped: 0" },
    { ...ended, text: uvu(0, 0, 0) },
    { ...ended, code: 1, text: uvu(3, 3, 0) },
    { ...ended, code: null, cause: "ended by SIGSEGV", text: uvu(3, 3, 0) },
    { ...ended, cause: "not done after 120 s", text: uvu(3, 3, 0) },
    { ...ended, code: 134, text: "crash" },
  ];
  for (const run of runs) {
    const totals = readTotals(run);
    assert.is(totals.failed, 1, JSON.stringify(run));
    assert.type(totals.why, "string");
  }
});

test("a run counted as one -> by its exit code", () => {
  assert.is(readTotals({ counted: "one", text: "", code: 0, cause: null }).passed, 1);
  assert.is(readTotals({ counted: "one", text: uvu(3, 3, 0), code: 2, cause: null }).failed, 1);
});

test.run();
