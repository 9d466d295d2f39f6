// Uploads one file as the JSON in the first argument says and prints what became of it, as one JSON object.
// stopAfter: abort once so many bytes are accepted, print the upload's URL, and leave the rest to a second run.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { PassThrough } from "node:stream";
import { Upload } from "tus-js-client";

const order = JSON.parse(process.argv[2]);
const seen = {};
const done = (outcome) => console.log(JSON.stringify({ ...outcome, ...seen }));

const options = {
  endpoint: order.endpoint,
  uploadUrl: order.uploadUrl,
  headers: { Authorization: `Bearer ${order.token}` },
  metadata: order.metadata ?? {},
  chunkSize: order.chunkSize,
  retryDelays: [0, 50, 100],
  protocol: order.protocol ?? "tus-v1",
  uploadLengthDeferred: order.deferred ?? false,
  parallelUploads: order.parallel ?? 1,
  onAfterResponse: (_request, response) => {
    seen.image = response.getHeader("Image-Digest") ?? seen.image;
  },
  onError: (error) => {
    done({ error: String(error) });
    process.exitCode = 1;
  },
  onSuccess: () => done({ url: upload.url }),
  onChunkComplete: (_size, accepted) => {
    if (order.stopAfter && accepted >= order.stopAfter) upload.abort().then(() => done({ url: upload.url, accepted }));
  },
};
if (!options.uploadLengthDeferred && options.parallelUploads === 1) options.uploadSize = (await stat(order.file)).size;
const file = createReadStream(order.file);
// A stream that is no file: the client cannot know its length.
const upload = new Upload(options.uploadLengthDeferred ? file.pipe(new PassThrough()) : file, options);
upload.start();
