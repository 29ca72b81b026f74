//SOURCES ../watchdog.java

// How the page of report.java looks: colours, signs, bars and curves.

import java.util.List;
import java.util.Objects;

/** All text has a contrast of at least 4.5, in light and in dark. */
final class ReportStyle {
    static final String SIGNS = """
        <svg width="0" height="0" aria-hidden="true"><defs>
        <symbol id="healthy" viewBox="0 0 16 16"><path d="M3 8.5l3.5 3.5L13 4.5"/></symbol>
        <symbol id="unhealthy" viewBox="0 0 16 16"><path d="M4 4l8 8M12 4l-8 8"/></symbol>
        <symbol id="paused" viewBox="0 0 16 16"><path d="M5.5 3.5v9M10.5 3.5v9"/></symbol>
        <symbol id="inconclusive" viewBox="0 0 16 16"><path d="M5 6a3 3 0 116 0c0 2-3 2-3 \
        4M8 13v.1"/></symbol>
        <symbol id="new" viewBox="0 0 16 16"><path d="M4 8h8"/></symbol>
        </defs></svg>""";
    static final String CSS = """
        :root { --page: #f4f5f7; --card: #fff; --text: #1b2330; --dim: #566072; --line: #dfe3e8;
          --up: #1a7f4b; --down: #c4302b; --warn: #8a5800; --none: #c5cbd3; }
        @media (prefers-color-scheme: dark) { :root { --page: #10141a; --card: #1a2029;
          --text: #e7eaef; --dim: #a3adba; --line: #2b333f; --up: #4cc38a; --down: #ff8a80;
          --warn: #e9b95c; --none: #47515f } }
        * { box-sizing: border-box; margin: 0 }
        body { background: var(--page); color: var(--text); line-height: 1.45;
          font: 16px/1.45 system-ui, sans-serif; padding: 1rem }
        main, footer { max-width: 60rem; margin: 0 auto } body > svg { position: absolute }
        .banner { display: flex; gap: 1rem; align-items: center; border-radius: 12px;
          padding: 1.1rem 1.25rem; background: #566072; margin-bottom: 1rem }
        .banner.healthy { background: #1a7f4b } .banner.unhealthy { background: #b82a25 }
        .banner.inconclusive, .banner.paused { background: #8a5800 }
        .banner.banner, .banner .sign { color: #fff }
        .banner .sign { width: 2rem; height: 2rem; flex: none }
        h1 { font-size: 1.4rem; line-height: 1.2 } .banner p { font-size: .9rem; margin-top: .2rem }
        h2 { font-size: 1.1rem } section > h2 { margin: 1.5rem 0 .5rem }
        article, ol, section > p { background: var(--card); border: 1px solid var(--line);
          border-radius: 12px; padding: 1rem 1.25rem; margin-bottom: .75rem }
        article header { display: flex; flex-wrap: wrap; gap: .1rem 1rem;
          justify-content: space-between; align-items: baseline }
        .sign { width: 1em; height: 1em; fill: none; stroke: currentColor; stroke-width: 2.2;
          stroke-linecap: round; stroke-linejoin: round; vertical-align: -.12em }
        .state { font-weight: 600; color: var(--dim) } .state .sign { margin-right: .4em }
        .healthy { color: var(--up) } .unhealthy { color: var(--down) }
        .inconclusive, .paused, strong { color: var(--warn) }
        span, dt, figcaption, small, footer { color: var(--dim); font-weight: 400 }
        p, small { overflow-wrap: anywhere } .reason { margin-top: .3rem }
        time { white-space: nowrap }
        .grid { display: grid; grid-template-columns: 1fr 3fr; gap: .6rem 1.5rem;
          margin-top: .8rem }
        figure svg { display: block; width: 100%; height: 28px }
        figcaption { display: flex; justify-content: space-between; font-size: .75rem }
        g:hover { opacity: .6 }
        rect { fill: var(--up) } .down { fill: var(--down) } .none { fill: var(--none) }
        dl { display: flex; flex-wrap: wrap; gap: .4rem 2rem; font-size: .9rem }
        .uptime { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem }
        .facts div:last-child { flex: 1 1 12rem }
        dt { font-size: .75rem } dd { font-variant-numeric: tabular-nums }
        .curve { display: block; width: 12rem; height: 24px; margin-top: .2rem }
        .curve path { fill: none; stroke: var(--dim); stroke-width: 1.5;
          vector-effect: non-scaling-stroke }
        ol { list-style: none } li { display: flex; gap: .7rem; padding: .6rem 0 }
        li + li { border-top: 1px solid var(--line) } li > .sign { margin-top: .25rem; flex: none }
        h3 { font-size: 1rem } h3 span, li p { font-size: .9rem }
        footer { font-size: .8rem; padding: .5rem 0 1rem }
        @media (max-width: 40rem) { body { padding: .6rem } .grid { grid-template-columns: 1fr }
          .uptime { grid-template-columns: repeat(4, 1fr) }
          article, ol, section > p { padding: .9rem } }
        """;

    static String sign(String state) {
        return "<svg class=\"sign " + state + "\" aria-hidden=\"true\"><use href=\"#" + state
            + "\"/></svg>";
    }

    static String fact(String name, String value) {
        return "<div><dt>" + name + "</dt><dd>" + value + "</dd></div>";
    }

    /** Up is a whole bar, an outage splits it, and unknown is a stub: not only a colour. */
    static String bars(String begin, String end, List<String> labels, List<Double> shares) {
        StringBuilder bars = new StringBuilder();
        for (int i = 0; i < shares.size(); i++) {
            Double share = shares.get(i);
            boolean known = share != null;
            int down = !known || share == 100 ? 0 : (int) Math.max(8, 28 - share * 0.28);
            int up = !known ? 4 : down > 20 ? 0 : down == 0 ? 28 : 26 - down;
            bars.append("<g><title>").append(labels.get(i)).append(": ")
                .append(known ? WatchStatus.percent(share) + " up" : "no data").append("</title>")
                .append(bar(known ? "up" : "none", i, 28 - up, up)).append(bar("down", i, 0, down))
                .append("</g>");
        }
        long outages = shares.stream().filter(share -> share != null && share < 100).count();
        return """
            <figure><svg viewBox="0 0 %d 28" preserveAspectRatio="none" role="img"
              aria-label="The last %s: outages in %d of %d bars">%s</svg>
            <figcaption><span>%s ago</span><span>%s</span></figcaption></figure>
            """.formatted(shares.size() * 4 - 1, begin, outages, shares.size(), bars, begin, end);
    }

    private static String bar(String style, int number, int top, int height) {
        return height == 0 ? "" : "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"3\" height=\"%d\"/>"
            .formatted(style, number * 4, top, height);
    }

    /** null: nothing is known, and the curve has a gap. */
    static String curve(List<Long> values) {
        long highest = values.stream().filter(Objects::nonNull).max(Long::compare).orElse(0L);
        StringBuilder path = new StringBuilder();
        boolean goesOn = false;
        for (int i = 0; i < values.size(); i++) {
            if (values.get(i) != null) path.append(goesOn ? 'L' : 'M').append(i).append(' ')
                .append(23 - 22 * values.get(i) / Math.max(1, highest));
            goesOn = values.get(i) != null;
        }
        return """
            <svg class="curve" viewBox="0 0 %d 24" preserveAspectRatio="none" aria-hidden="true">
            <path d="%s"/></svg>""".formatted(values.size() - 1, path);
    }
}
