%% A logger handler that sends each report to a process, as it came.
-module(esp_test_reports).

-export([log/2]).

log(#{msg := {report, Report}, meta := Meta}, #{config := To}) ->
    To ! {theirs, Report, Meta};
log(_, _) ->
    ok.
