/** Shorter names, such as HOST or LOG_LEVEL, are too similar to those of other programs. */
const minLength = 10;

/** A name may have one wrong, missing or extra letter for this many letters. */
const lettersPerMistake = 5;

/**
 * The name that an unknown one probably means: the same in lower case, with its words in a different order, or with a
 * few wrong letters. Undefined if it resembles none.
 */
export function nearMiss(unknown: string, names: readonly string[]): string | undefined {
  const given = unknown.toUpperCase();
  const distances = names
    .filter((name) => name.length >= minLength)
    .map((name) => ({ name, distance: words(given) === words(name) ? 0 : editDistance(given, name) }))
    .filter(({ name, distance }) => distance <= name.length / lettersPerMistake);
  return distances.toSorted((a, b) => a.distance - b.distance)[0]?.name;
}

function words(name: string): string {
  return name.split("_").toSorted().join("_");
}

/** The number of letters to insert, remove, replace or swap with the next one (optimal string alignment distance). */
function editDistance(from: string, to: string): number {
  let before: number[] = [];
  let above = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const line = [row];
    for (let column = 1; column <= to.length; column++) {
      const isSame = from[row - 1] === to[column - 1];
      const isExchanged = from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      line[column] = Math.min(
        above[column]! + 1,
        line[column - 1]! + 1,
        above[column - 1]! + (isSame ? 0 : 1),
        isExchanged ? before[column - 2]! + 1 : Infinity,
      );
    }
    [before, above] = [above, line];
  }
  return above[to.length]!;
}
