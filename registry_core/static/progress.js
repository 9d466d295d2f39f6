// Owns what a progress line says: sizes, speed over the last seconds, time left. Pure: it is given the clock.

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];
const WINDOW_MS = 5000;

export function sizeText(bytes) {
  let unit = 0;
  let amount = bytes;
  while (amount >= 1024 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${bytes} bytes` : `${amount.toFixed(1)} ${UNITS[unit]}`;
}

export function durationText(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export class Speedometer {
  #points = [];

  note(bytes, atMs) {
    this.#points.push([bytes, atMs]);
    while (this.#points.length > 2 && atMs - this.#points[0][1] > WINDOW_MS) this.#points.shift();
  }

  // Bytes per second over the last seconds, or 0 while nothing is known.
  get rate() {
    if (this.#points.length < 2) return 0;
    const [first, last] = [this.#points[0], this.#points.at(-1)];
    const seconds = (last[1] - first[1]) / 1000;
    return seconds > 0 ? (last[0] - first[0]) / seconds : 0;
  }
}

export function progressText(sent, total, rate) {
  const parts = [`${Math.floor((sent / total) * 100)} %`, `${sizeText(sent)} of ${sizeText(total)}`];
  if (rate > 0) parts.push(`${sizeText(Math.round(rate))}/s`, `${durationText((total - sent) / rate)} left`);
  return parts.join(" · ");
}
