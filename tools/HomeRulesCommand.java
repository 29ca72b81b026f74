//SOURCES ../watchdog.java

// What setup and schedule have in common: the rules that they mean.

import java.util.ListResourceBundle;
import java.util.ResourceBundle;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.Messages;
import picocli.CommandLine.Spec;

/** Without --rules it is for the rules in ~/.config: those here may be a checkout's example. */
abstract class HomeRulesCommand extends Subcommand {
    CommandSpec spec;

    /** Picocli prefers the texts of a bundle to those of the inherited option. */
    @Spec void describeRules(CommandSpec own) {
        spec = own;
        ResourceBundle texts = new ListResourceBundle() {
            @Override protected Object[][] getContents() {
                return new Object[][] {
                    {"rules", "The rules; default: ~/.config/watchdog/rules.groovy."}};
            }
        };
        own.usageMessage().messages(new Messages(own, texts));
    }

    @Override public Integer call() {
        if (options.rules == null) options.rules = options.env
            .folder("XDG_CONFIG_HOME", ".config").resolve("watchdog/rules.groovy");
        return super.call();
    }
}
