/** The answer to a task whose data, if any, lies in memory: Data-In, status with its last PDU, or SCSI Response (RFC 7143 11.4, 11.7). */
import { ScsiStatus } from "../scsi/task.ts";
import { DataInFlag, finalBit, noTag, ResponseOp } from "./constants.ts";
import { residualBytes, residualFlags } from "./data_in.ts";
import type { IscsiTask } from "./iscsi_task.ts";
import type { SessionParameters } from "./key_negotiation.ts";
import type { PduWriter } from "./pdu_writer.ts";

export function answerTask(task: IscsiTask, writer: PduWriter, parameters: SessionParameters): void {
  const hasData = task.dataIn.byteLength > 0 && task.dataInBytesMax > 0;
  if (hasData && sendData(task, writer, parameters)) return;
  const sense = task.sense;
  const senseBytes = sense.byteLength === 0 ? 0 : 2 + sense.byteLength;
  writer.open(ResponseOp.scsiResponse, finalBit | residualFlags(task), senseBytes);
  // Response 00h: the command has been completed at the target, whatever its status.
  writer.u8(3, task.status);
  writer.sequence(task.tag, true);
  writer.u32(36, task.dataSn + task.r2tSn);
  writer.u32(44, residualBytes(task));
  if (senseBytes > 0) {
    writer.data(new Uint8Array([sense.byteLength >> 8, sense.byteLength & 0xff]));
    writer.data(sense, 2);
  }
  writer.close();
}

/** True when the status went with the data. */
function sendData(task: IscsiTask, writer: PduWriter, parameters: SessionParameters): boolean {
  const endOffset = Math.min(task.dataIn.byteLength, task.dataInBytesMax);
  const withStatus = task.status === ScsiStatus.good;
  let burstLeft = parameters.maxBurstBytes;
  for (let at = 0; at < endOffset; ) {
    const bytes = Math.min(parameters.initiatorSegmentBytes, endOffset - at, burstLeft);
    const last = at + bytes === endOffset;
    burstLeft -= bytes;
    const carriesStatus = last && withStatus;
    const flags = last || burstLeft === 0 ? finalBit : 0;
    writer.open(ResponseOp.dataIn, carriesStatus ? flags | DataInFlag.status | residualFlags(task) : flags, bytes);
    if (carriesStatus) {
      writer.sequence(task.tag, true);
      writer.u8(3, task.status);
      writer.u32(44, residualBytes(task));
    } else writer.sequenceWithoutStatus(task.tag);
    writer.u32(20, noTag);
    writer.u32(36, task.dataSn++);
    writer.u32(40, at);
    writer.data(bytes === task.dataIn.byteLength ? task.dataIn : task.dataIn.subarray(at, at + bytes));
    writer.close();
    at += bytes;
    if (burstLeft === 0) burstLeft = parameters.maxBurstBytes;
  }
  return withStatus;
}
