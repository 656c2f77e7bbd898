/** The whole way of an update on a simulated machine whose power is cut in every single write. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { slotConfig } from "../../firmware/update/bundle_format.ts";
import { confirmVersion } from "../../firmware/update/confirm.ts";
import { readNotes } from "../../firmware/update/notes.ts";
import { rollBack } from "../../firmware/update/rollback.ts";
import { phaseOf } from "../../firmware/update/slot_state.ts";
import { updateStatus } from "../../firmware/update/update_status.ts";
import type { BundleSource } from "../../hal/api/appliance_image.ts";
import type { MockImage } from "../../hal/mock/appliance_image.ts";
import { fakeStatus } from "./fake_control.ts";
import {
  contentsOf,
  imageBench,
  install,
  machine,
  makeBundleBytes,
  partsOf,
  rootSizeBytes,
  runningRelease,
  sha256Hex,
  sourceOf,
} from "./support/update_bench.ts";

const test = suite("update_install");

const parts = partsOf(1);
const bundle = makeBundleBytes();
const rootBytes = parts.root.byteLength;
const newContents = {
  root: sha256Hex(parts.root),
  vmlinuz: sha256Hex(parts.vmlinuz),
  initrd: sha256Hex(parts.initrd),
  "slot.cfg": sha256Hex(new TextEncoder().encode(slotConfig("ab".repeat(32), 8))),
};
const newRelease = { version: "0.2.0", commit: "0123456789abcdef", counter: 20, machine };

/** The version of the slot that was started. */
function started(image: MockImage): "a" | "b" {
  const slot = image.boot();
  image.release = slot === "b" ? newRelease : runningRelease;
  return slot;
}

async function phase(image: MockImage): Promise<string> {
  return phaseOf(await image.variables(), image.running);
}

function healthy(image: MockImage) {
  image.machine = { serving: true, degraded: null, upMs: 60_000 };
  return { image, status: async () => fakeStatus(), sleep: async () => {} };
}

test("a bundle -> in the other slot as it is, started once at the next restart; what runs is not touched", async () => {
  const image = imageBench();
  const before = contentsOf(image, "a", rootSizeBytes);
  const result = await install(image, sourceOf(bundle));
  assert.equal(result, { ok: true, value: { version: "0.2.0", slot: "b", counter: 20, key: "oak" } });
  assert.equal(contentsOf(image, "b", rootBytes), newContents);
  assert.equal(contentsOf(image, "a", rootSizeBytes), before);
  assert.is(await phase(image), "installed");
  assert.is(started(image), "b");
  assert.is(await phase(image), "trial");
});

test("healthy -> good: started from then on, the counter is raised, and the other one can be rolled back to", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  assert.is(await confirmVersion(healthy(image)), "good");
  assert.is(await phase(image), "good");
  for (let starts = 0; starts < 2; starts++) assert.is(started(image), "b");
  const notes = await readNotes(image);
  assert.ok(notes.ok);
  assert.is(notes.value.counter, 20);
  assert.is(notes.value.slots.b?.state, "good");
  assert.is((await updateStatus(image, null)).other.state, "good");

  assert.equal(await rollBack(image), { ok: true, value: { changed: true, slot: "a" } });
  assert.is(await phase(image), "going-back");
  assert.equal(await rollBack(image), { ok: true, value: { changed: false, slot: "a" } });
  assert.is(started(image), "a");
  assert.is(await phase(image), "good");
  // The counter stays: only what is in the other slot already can be older.
  const older = await install(image, sourceOf(makeBundleBytes({ changes: { counter: 19 } })));
  assert.is(older.ok ? "" : older.code, "older");
});

test("restarted before it is good -> what ran before runs, and says so", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  assert.is(started(image), "b");
  assert.is(started(image), "a");
  assert.is(await phase(image), "fallen-back");
  const status = await updateStatus(image, null);
  assert.is(status.other.state, "failed");
  assert.match(status.why ?? "", /started again before it was good/);
  // And it can be tried again.
  assert.ok((await install(image, sourceOf(bundle))).ok);
});

test("a firmware that does not stay up on trial -> restarted into what ran before, with the reason", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  image.machine = { serving: false, degraded: "the firmware has ended 5 times: it is broken", upMs: 30_000 };
  assert.is(await confirmVersion({ image, status: async () => null, sleep: async () => {} }), "failed");
  assert.is(image.restarts, 1);
  assert.is(started(image), "a");
  assert.is((await updateStatus(image, null)).why, "the firmware has ended 5 times: it is broken");
});

test("a version that never serves -> back after its time; not before", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  let looks = 0;
  const sleep = async () => {
    looks++;
    image.machine = { ...image.machine, upMs: looks * 60_000 };
  };
  assert.is(await confirmVersion({ image, status: async () => null, sleep }), "failed");
  assert.is(looks, 15);
  assert.is(image.restarts, 1);
  assert.is(started(image), "a");
  assert.match(
    (await updateStatus(image, null)).why ?? "",
    /^not good 15 minutes after its start: the firmware does not serve/,
  );
});

test("the first start of an image -> waits as long as it takes, and never restarts: there is nothing to fall back to", async () => {
  const image = imageBench();
  image.media.b.boot.clear();
  await image.setVariables({ good_a: "0", good_b: "0" });
  assert.is(await phase(image), "new");
  image.machine = { serving: false, degraded: "there is no configuration", upMs: 3_600_000 };
  const whys: (string | null)[] = [];
  const sleep = async () => {
    whys.push(image.trialShown());
    if (whys.length === 20) image.machine = { serving: true, degraded: null, upMs: 3_700_000 };
  };
  assert.is(await confirmVersion({ image, status: async () => fakeStatus(), sleep }), "good");
  assert.is(whys[0], "there is no configuration");
  assert.is(image.restarts, 0);
  assert.is(await phase(image), "good");
});

test("unhealthy in between -> the looks begin anew, and the reason is shown", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  image.machine = { serving: true, degraded: null, upMs: 1000 };
  let looks = 0;
  const whys: (string | null)[] = [];
  const good = await confirmVersion({
    image,
    status: async () => (++looks === 4 ? null : fakeStatus()),
    sleep: async () => void whys.push(image.trialShown()),
  });
  assert.is(good, "good");
  assert.is(looks, 4 + 5);
  assert.match(whys[2] ?? "", /3 of 5/);
  assert.is(whys[3], "the firmware does not answer");
  assert.match(whys[4] ?? "", /1 of 5/);
});

test("rolled back while it is on trial -> that holds, however healthy it is by then", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  const { writes } = image;
  let looks = 0;
  const sleep = async () => {
    if (++looks === 2) assert.ok((await rollBack(image)).ok);
  };
  assert.is(await confirmVersion({ ...healthy(image), sleep }), "rolled-back");
  assert.is(image.writes, writes + 1, "of the rollback alone");
  assert.match(image.trialShown() ?? "", /rolled back/);
  assert.is(image.restarts, 0);
  assert.is(started(image), "a");
  assert.is(await phase(image), "good");
});

test("healthy while another command changes slots -> waits for its end, then good", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  image.isLocked = true;
  const { writes } = image;
  let waited = 0;
  const sleep = async () => {
    if (++waited < 8) return;
    assert.is(image.writes, writes);
    assert.match(image.trialShown() ?? "", /under way/);
    image.isLocked = false;
  };
  assert.is(await confirmVersion({ ...healthy(image), sleep }), "good");
  assert.is(await phase(image), "good");
});

test("rolled back before it is started -> what runs goes on", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  assert.equal(await rollBack(image), { ok: true, value: { changed: true, slot: "a" } });
  assert.is(started(image), "a");
  assert.is(await phase(image), "good");
  const again = await rollBack(image);
  assert.is(again.ok ? "" : again.code, "no-other-version");
});

test("an installation while what runs is on trial -> refused: the other slot is the way back", async () => {
  const image = imageBench();
  await install(image, sourceOf(bundle));
  started(image);
  const writes = image.writes;
  const result = await install(image, sourceOf(makeBundleBytes({ changes: { version: "0.3.0", counter: 30 } })));
  assert.is(result.ok ? "" : result.code, "on-trial");
  assert.is(image.writes, writes);
});

for (const fate of ["done", "not done"] as const) {
  test(`the power cut in every single write of an installation, that write ${fate} -> what ran before runs, or all of the new one`, async () => {
    const whole = imageBench();
    await install(whole, sourceOf(bundle));
    const { writes } = whole;
    assert.ok(writes > 15);
    const seen = { a: 0, b: 0 };
    for (let cut = 1; cut <= writes; cut++) seen[await cutInstallation(cut, fate)]++;
    assert.equal(seen, fate === "done" ? { a: writes - 1, b: 1 } : { a: writes, b: 0 });
  });
}

/** Which slot is started after it. */
async function cutInstallation(cut: number, fate: "done" | "not done"): Promise<"a" | "b"> {
  const image = imageBench();
  const before = contentsOf(image, "a", rootSizeBytes);
  image.cutAt(cut, fate);
  const result = await install(image, sourceOf(bundle));
  assert.not(result.ok, `cut ${cut}`);
  const slot = started(image);
  assert.equal(contentsOf(image, "a", rootSizeBytes), before, `cut ${cut}: the slot that ran is untouched`);
  if (slot === "b") {
    assert.equal(contentsOf(image, "b", rootBytes), newContents, `cut ${cut}: a slot that is started is whole`);
    assert.is(await phase(image), "trial");
    assert.is(started(image), "a", `cut ${cut}: it is started once`);
  }
  assert.ok(["good", "fallen-back"].includes(await phase(image)), `cut ${cut}: ${await phase(image)}`);
  assert.is((await updateStatus(image, null)).running.state, "good");
  // Starts that come to nothing do not lead into a slot that is not whole either.
  for (let starts = 0; starts < 4; starts++)
    if (image.boot() === "b") assert.ok(isWholeOrOld(image), `cut ${cut}: started a slot that is not whole`);
  await image.setVariables({ next: "a", tries: "0" });
  started(image);
  const retried = await install(image, sourceOf(bundle));
  assert.ok(retried.ok, `cut ${cut}: ${retried.ok ? "" : retried.text}`);
  assert.is(started(image), "b");
  return slot;
}

/** Slot b holds the former version or the new one, nothing between. */
function isWholeOrOld(image: MockImage): boolean {
  const old = contentsOf(imageBench(), "b", rootSizeBytes);
  const is = (wanted: Record<string, string>, bytes: number) =>
    JSON.stringify(sorted(contentsOf(image, "b", bytes))) === JSON.stringify(sorted(wanted));
  return is(newContents, rootBytes) || is(old, rootSizeBytes);
}

function sorted(record: Record<string, string>): [string, string][] {
  return Object.entries(record).sort(([left], [right]) => (left < right ? -1 : 1));
}

for (const fate of ["done", "not done"] as const) {
  test(`the power cut in each write of a confirmation, that write ${fate} -> known to be good, or what ran before`, async () => {
    for (let cut = 1; cut <= 2; cut++) {
      const image = imageBench();
      await install(image, sourceOf(bundle));
      started(image);
      image.cutAt(cut, fate);
      await mustReject(confirmVersion(healthy(image)));
      assert.is(started(image), cut === 2 && fate === "done" ? "b" : "a", `cut ${cut}`);
      assert.is(await phase(image), cut === 2 && fate === "done" ? "good" : "fallen-back", `cut ${cut}`);
    }
  });

  test(`the power cut in the write of a rollback, that write ${fate} -> it was ordered, or not`, async () => {
    const image = imageBench();
    await install(image, sourceOf(bundle));
    started(image);
    await confirmVersion(healthy(image));
    image.cutAt(1, fate);
    assert.not((await rollBack(image)).ok);
    assert.is(started(image), fate === "done" ? "a" : "b");
    assert.is(await phase(image), "good");
  });
}

async function mustReject(promise: Promise<unknown>): Promise<void> {
  const outcome = await promise.then(
    () => "resolved",
    () => "rejected",
  );
  assert.is(outcome, "rejected");
}

test("a medium that stores something else -> found by reading back; what runs is started again", async () => {
  for (const what of ["root", "vmlinuz", "initrd", "slot.cfg"] as const) {
    const image = imageBench();
    image.flipIn = what;
    const result = await install(image, sourceOf(bundle));
    assert.is(result.ok ? "" : result.code, "slot-damaged");
    assert.match(result.ok ? "" : result.text, what);
    assert.is(started(image), "a");
    assert.is((await updateStatus(image, null)).other.state, "unfinished");
  }
});

test("a source that brings something else the second time -> refused, nothing leads to the slot", async () => {
  for (const second of [
    makeBundleBytes({ seed: 2 }),
    bundle.with(bundle.length - 1, bundle.at(-1)! ^ 1),
    bundle.subarray(0, 9000),
  ]) {
    const image = imageBench();
    let opened = 0;
    const source: BundleSource = {
      name: "changing.bundle",
      open: () => sourceOf(opened++ === 0 ? bundle : second).open(),
    };
    const result = await install(image, source);
    assert.ok(!result.ok && ["unreadable", "wrong-digest", "truncated"].includes(result.code));
    assert.is(opened, 2);
    assert.not(image.media.b.boot.has("vmlinuz"));
    assert.is(started(image), "a");
  }
});

test.run();
