//SOURCES ../watchdog.java

// What setup, schedule and report print: lines for people, or one object for programs.

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** With --json nothing is printed before the end, and then all of it in one object. */
final class ToolOutput {
    private final Context context;
    private final Map<String, Object> fields = new LinkedHashMap<>();
    private final List<String> problems = new ArrayList<>();

    ToolOutput(Context context) { this.context = context; }

    /** {@code value} was found, written, kept or removed; {@code note} is for people only. */
    void did(String word, Object value, String note) {
        list(word).add(value.toString());
        line(String.format("%-9s", word) + value + note);
    }

    /** A sentence. */
    void say(String text) {
        list("messages").add(text);
        line(text);
    }

    void problem(String text) {
        problems.add(text);
        context.printer.problem(text);
    }

    void warn(String text) { problem("watchdog: " + text); }

    void field(String name, Object value) { fields.put(name, value); }

    boolean isForPeople() { return !context.options.json; }

    int end(int exit) {
        problems.addAll(context.problems);
        context.printer.warned().forEach(text -> problems.add("watchdog: " + text));
        fields.put("problems", problems);
        fields.put("exit", exit);
        context.printer.print(Stream.of(), fields); // the lines are printed already
        return exit;
    }

    private void line(String text) {
        if (isForPeople() && !context.options.quiet) context.printer.line(text);
    }

    @SuppressWarnings("unchecked") private List<String> list(String name) {
        return (List<String>) fields.computeIfAbsent(name, none -> new ArrayList<String>());
    }
}
