// mdBook's index has words that are separated by spaces, and Chinese has none. This searches the
// stored text of each section instead, for all parts of the query.
(() => {
    elasticlunr.Index.prototype.search = function (query) {
        const parts = query.toLowerCase().split(/\s+/).filter(part => part !== '');
        const found = [];
        for (const [ref, doc] of Object.entries(this.documentStore.docs)) {
            const title = doc.title.toLowerCase(), body = doc.body.toLowerCase();
            if (parts.every(part => title.includes(part) || body.includes(part))) {
                const at = Math.max(0, body.indexOf(parts[0]));
                const end = at + parts[0].length;
                // The teaser marks words between spaces.
                const teaser = [doc.body.slice(Math.max(0, at - 30), at),
                    doc.body.slice(at, end), doc.body.slice(end, end + 60)].join(' ');
                const score = parts.filter(part => title.includes(part)).length;
                found.push({ ref, score, doc: { ...doc, body: teaser } });
            }
        }
        return found.sort((a, b) => b.score - a.score);
    };
    // A query in the address may have been searched already, and is not searched twice in a row.
    const bar = document.getElementById('mdbook-searchbar');
    const query = bar === null ? '' : bar.value;
    for (const next of query === '' ? [] : [query + ' ' + query, query]) {
        bar.value = next;
        bar.dispatchEvent(new Event('keyup'));
    }
})();
