import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab, type Site } from "./support/replication_site.ts";

const test = suite("roles_takeover");
const plain = { force: false, fork: false, timeoutMs: 10_000 };

test("the primary answers -> primary-reachable, nothing changes", () => {
  const lab = Lab.pair(1);
  const elm = lab.site("elm");
  assert.is(lab.refused("takeover", elm.commands.takeover(plain)), "primary-reachable");
  assert.is(elm.status.role, "golden");
  lab.site("oak").write(1, 1);
});

test("the primary restarts, is confirmed and writes on -> it is still reachable", () => {
  const lab = Lab.pair(13);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 20; block++) oak.write(block, 1 + block);
  lab.until("arrived", () => elm.log.commitSeq === oak.log.commitSeq);
  oak.crash();
  oak.start();
  lab.until("confirmed", () => oak.status.writable);
  for (let block = 0; block < 20; block++) oak.write(block, 101 + block);
  lab.until("arrived again", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.is(lab.refused("takeover", elm.commands.takeover(plain)), "primary-reachable");
  assert.is(oak.status.writable, true);
});

test("the primary is gone -> taken over, what had arrived is there, the loss is possible and bounded", () => {
  const lab = Lab.pair(2);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 20; block++) oak.write(block, 1 + block);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  oak.crash();
  const report = lab.done("takeover", elm.commands.takeover(plain));
  assert.is(report.changed, true);
  assert.is(report.loss, "possible");
  assert.is(report.maybeLostSeqs, null);
  assert.ok(report.maybeLostMs! >= 1000 && report.maybeLostMs! < 3000, `${report.maybeLostMs}`);
  assert.is(report.timeline, elm.log.lineage().at(-1)?.timeline);
  assert.is(report.forkSeq, elm.log.lineage().at(-1)!.firstSeq - 1);
  assert.is(elm.status.writable, true);
  for (let block = 0; block < 20; block++) assert.is(elm.read(block), 1 + block);
  elm.write(1, 99);
  assert.is(lab.done("again", elm.commands.takeover(plain)).changed, false);
});

test("records are still on their way into the cache, and the shelf is slow -> the report tells where and when it was at last", () => {
  const lab = Lab.pair(14);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  const { nvram } = elm.log;
  const want = nvram.wantPersist.bind(nvram);
  nvram.wantPersist = (client, token) => void elm.hal.clock.after(20, () => want(client, token));
  for (let block = 0; block < 20; block++) oak.submit(block, 1 + block);
  lab.until("records are being persisted", () => elm.log.headSeq > elm.log.persistedSeq);
  const group = elm.group!;
  const save = group.saveReplicationDocument.bind(group);
  group.saveReplicationDocument = (document, done) =>
    save(document, (error) => elm.hal.clock.after(3000, () => done(error)));
  const report = lab.done("takeover", elm.commands.takeover({ ...plain, force: true }));
  assert.is(report.forkSeq, elm.log.lineage().at(-1)!.firstSeq - 1);
  assert.ok(report.maybeLostMs! >= 3000, `${report.maybeLostMs}`);
  const event = elm.events.find((one) => one.startsWith("takeover-forced:")) ?? "";
  assert.match(event, `from oak at seq ${report.forkSeq} `);
});

/** elm has taken over from oak, which is back and knows it. */
function takenOver(seed: number): { lab: Lab; oak: Site; elm: Site } {
  const lab = Lab.pair(seed);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  oak.crash();
  lab.done("takeover", elm.commands.takeover(plain));
  oak.start();
  lab.until("oak knows", () => oak.replication!.channel("elm")?.decision?.kind === "superseded");
  return { lab, oak, elm };
}

/** ... and then elm loses its write cache. Nobody can go on by himself. */
function newerPrimaryHasLost(seed: number): { lab: Lab; oak: Site; elm: Site } {
  const { lab, oak, elm } = takenOver(seed);
  assert.match(oak.status.why ?? "", /^elm has been primary since seq \d+; .* goldcopy group resync demo --from elm$/);
  elm.write(2, 2);
  lab.until("its timeline is on the shelf", () => elm.log.destagedSeq === elm.log.commitSeq);
  elm.write(3, 3);
  elm.crash();
  elm.cacheTrusted = false;
  elm.start();
  elm.cacheTrusted = true;
  lab.until("oak has heard", () => oak.replication!.channel("elm")?.theirs?.consistent === false);
  lab.until("elm has heard", () => elm.replication!.channel("oak")?.theirs?.role === "primary");
  return { lab, oak, elm };
}

test("the newer primary has lost its cache, the older one is back -> both advise the command that works", () => {
  const { lab, oak, elm } = newerPrimaryHasLost(13);
  assert.match(elm.status.why ?? "", /goldcopy group serve demo --alone on oak goes on with what oak has/);
  assert.match(oak.status.why ?? "", /goldcopy group serve demo --alone goes on without what elm had/);
  const refused = lab.result("takeover of a primary", oak.commands.takeover(plain), 10_000);
  assert.not.ok(refused.ok, "nothing has changed, and nobody knows whether anything is lost");
  assert.is(!refused.ok && refused.error.code, "not-writable");
  assert.match(refused.ok ? "" : refused.error.text, /goldcopy group serve demo --alone/);
  lab.done("alone", oak.commands.serveAlone(10_000));
  assert.is(oak.status.writable, true);
  assert.is(oak.read(1), 1);
  lab.done("resync", elm.commands.resync("oak", 60_000));
  assert.is(oak.peer("elm").state, "in-sync");
});

test("the newer primary is told to go on without what it has lost -> the older one no longer advises to serve alone", () => {
  const { lab, oak, elm } = newerPrimaryHasLost(14);
  lab.done("alone", elm.commands.serveAlone(10_000));
  lab.until("oak has heard", () => oak.replication!.channel("elm")?.theirs?.writable === true);
  assert.not.match(oak.status.why ?? "", /--alone/);
  lab.done("resync", oak.commands.resync("elm", 60_000));
  assert.is(elm.peer("oak").state, "in-sync");
});

test("an ex-primary goes on alone on the operator's word -> the primary hears it on its link, and can follow it", () => {
  const { lab, oak, elm } = takenOver(15);
  lab.done("alone", oak.commands.serveAlone(10_000));
  lab.until("elm has heard", () => elm.replication!.channel("oak")?.theirs?.writable === true);
  assert.is(elm.peer("oak").state, "diverged");
  lab.done("resync", elm.commands.resync("oak", 60_000));
  assert.is(oak.peer("elm").state, "in-sync");
});

test("the ex-primary comes back -> not writable, says why, resyncs on request, and the role returns", () => {
  const lab = Lab.pair(3);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 20; block++) oak.write(block, 1 + block);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  lab.cut("oak", "elm");
  for (let block = 10; block < 15; block++) oak.write(block, 200);
  oak.crash();
  lab.done("takeover", elm.commands.takeover(plain));
  elm.write(12, 50);
  elm.write(30, 51);
  lab.join("oak", "elm");
  oak.start();
  lab.until("oak knows", () => oak.status.why?.includes("elm has been primary since") === true);
  assert.is(oak.status.role, "primary");
  assert.is(oak.status.writable, false);
  assert.match(oak.status.why ?? "", /goldcopy group resync demo --from elm/);
  assert.is(oak.read(12), 200, "its own branch stays readable");
  assert.is(elm.peer("oak").state, "suspended");
  const resynced = lab.done("resync", oak.commands.resync("elm", 60_000));
  assert.ok(resynced.salvage !== null);
  assert.is(oak.status.role, "golden");
  assert.is(oak.status.state, "in-sync");
  assert.equal(oak.image(), elm.image());
  assert.is(oak.status.salvage.length, 1);
  const salvage = new Uint8Array(4096);
  let answered = false;
  oak.group!.readFork(resynced.salvage!.id, 1, 12, salvage, (error) => {
    assert.is(error, null);
    answered = true;
  });
  lab.until("the salvage set is read", () => answered);
  assert.is(salvage[0], 200, "what the branch held is kept");
  lab.done("migrate", elm.commands.migrate("oak", 10_000));
  assert.is(oak.read(12), 50);
  assert.is(oak.read(30), 51);
  oak.write(5, 5);
});

test("the ex-primary had nothing beyond the fork point -> it follows without a full resync", () => {
  const lab = Lab.pair(4);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 20; block++) oak.write(block, 1 + block);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  oak.crash();
  lab.done("takeover", elm.commands.takeover(plain));
  elm.write(1, 99);
  oak.start();
  lab.until("oak knows", () => oak.status.why?.includes("elm has been primary since") === true);
  const resynced = lab.done("resync", oak.commands.resync("elm", 60_000));
  assert.is(resynced.salvage, null);
  assert.not(elm.saw("resync-started"));
  assert.equal(oak.image(), elm.image());
});

test("failback -> resync and migrate in one", () => {
  const lab = Lab.pair(5);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  lab.cut("oak", "elm");
  oak.write(2, 2);
  oak.crash();
  lab.done("takeover", elm.commands.takeover(plain));
  elm.write(3, 3);
  lab.join("oak", "elm");
  oak.start();
  lab.until("oak knows", () => oak.status.why?.includes("elm has been primary") === true);
  const back = lab.done("failback", oak.commands.failback(60_000));
  assert.is(back.primary, "oak");
  assert.ok(back.salvage !== null);
  assert.is(oak.status.writable, true);
  assert.is(oak.read(2), 0);
  assert.is(oak.read(3), 3);
  lab.until("elm follows", () => oak.peer("elm").state === "in-sync");
});

test("takeover without contact while the primary goes on -> both diverged, both stay as they are, resync mends it", () => {
  const lab = Lab.pair(6);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  lab.cut("oak", "elm");
  oak.write(2, 2);
  lab.done("takeover", elm.commands.takeover(plain));
  elm.write(3, 3);
  lab.join("oak", "elm");
  lab.until("oak sees it", () => oak.peer("elm").state === "diverged");
  lab.until("elm sees it", () => elm.peer("oak").state === "diverged");
  assert.is(oak.status.state, "diverged");
  assert.ok(oak.saw("diverged") && elm.saw("diverged"));
  assert.is(oak.read(2), 2);
  assert.is(elm.read(3), 3);
  lab.done("resync oak", oak.commands.resync("elm", 60_000));
  assert.equal(oak.image(), elm.image());
  assert.is(oak.status.salvage.length, 1);
  assert.is(elm.peer("oak").state, "in-sync");
});

test("both diverged, and one is met before it may write again after a start -> the other one hears that it may, and a resync mends it", () => {
  const lab = Lab.pair(8);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  lab.cut("oak", "elm");
  oak.write(2, 2);
  lab.done("takeover", elm.commands.takeover(plain));
  elm.write(3, 3);
  elm.inherits = true;
  elm.openingMs = 3000;
  elm.restart();
  lab.join("oak", "elm");
  lab.until("oak sees it", () => oak.peer("elm").state === "diverged");
  assert.not(elm.status.writable);
  lab.until("elm may write", () => elm.status.writable);
  lab.world.runFor(1000);
  lab.done("resync oak", oak.commands.resync("elm", 60_000));
  assert.equal(oak.image(), elm.image());
  assert.is(elm.peer("oak").state, "in-sync");
});

test("the primary was cut off without writing -> it gives way to the new one on contact", () => {
  const lab = Lab.pair(7);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  lab.cut("oak", "elm");
  lab.world.runFor(1500);
  lab.done("takeover", elm.commands.takeover(plain));
  lab.join("oak", "elm");
  lab.until("oak gives way", () => !oak.status.writable);
  assert.is(elm.status.writable, true);
  assert.ok(oak.saw("primary-superseded"));
});

test("the primary stops in order -> a takeover proves that nothing is lost", () => {
  const lab = Lab.pair(8);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 10; block++) oak.submit(block, 1 + block);
  let stopped = false;
  void oak.replication!.stop(true).then(() => {
    stopped = true;
  });
  lab.until("stopped", () => stopped);
  lab.world.runFor(50);
  oak.crash();
  const report = lab.done("takeover", elm.commands.takeover(plain));
  assert.is(report.loss, "none");
  assert.is(report.maybeLostMs, 0);
  for (let block = 0; block < 10; block++) assert.is(elm.read(block), 1 + block);
});

test("the primary stopped in order and came back in between -> no proof any more", () => {
  const lab = Lab.pair(9);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  let stopped = false;
  void oak.replication!.stop(true).then(() => {
    stopped = true;
  });
  lab.until("stopped", () => stopped);
  lab.world.runFor(50);
  oak.crash();
  oak.start();
  lab.until("oak serves", () => oak.status.writable);
  oak.crash();
  assert.is(lab.done("takeover", elm.commands.takeover(plain)).loss, "possible");
});

test("--force with the primary reachable -> taken over at once, the primary gives way or both say diverged", () => {
  const lab = Lab.pair(10);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  lab.until("arrived", () => oak.peer("elm").lagSeqs === 0);
  lab.done("takeover", elm.commands.takeover({ ...plain, force: true }));
  assert.is(elm.status.writable, true);
  lab.until("settled", () => !oak.status.writable || oak.peer("elm").state === "diverged");
});

test("both sides restart after a takeover -> the newer one is confirmed by the older, which stays non-writable", () => {
  const lab = Lab.pair(11);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  lab.cut("oak", "elm");
  oak.write(2, 2);
  oak.crash();
  lab.done("takeover", elm.commands.takeover(plain));
  elm.write(3, 3);
  elm.crash();
  lab.join("oak", "elm");
  oak.start();
  elm.start();
  lab.until("elm serves", () => elm.status.writable);
  assert.is(oak.status.writable, false);
});

test("the primary lost its write cache -> it is not confirmed, and the copy may take over though it answers", () => {
  const lab = Lab.pair(12);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 30; block++) oak.write(block, 1 + block);
  lab.until("arrived", () => elm.log.commitSeq === oak.log.commitSeq);
  oak.crash();
  oak.cacheTrusted = false;
  oak.start();
  lab.until("settled", () => oak.status.settled);
  assert.is(oak.status.writable, false);
  assert.match(oak.status.why ?? "", /lost/);
  const report = lab.done("takeover", elm.commands.takeover(plain));
  assert.is(report.changed, true);
  for (let block = 0; block < 30; block++) assert.is(elm.read(block), 1 + block);
  lab.until("oak knows", () => oak.replication!.channel("elm")?.decision?.kind === "superseded");
  lab.done("resync", oak.commands.resync("elm", 60_000));
  assert.equal(oak.image(), elm.image());
});

test.run();
