%% What a C-node's processes log reaches the `logger` of the VM, printed as OTP
%% prints its own, and cannot hurt it (protocol.md, section 15).
-module(logging_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-compile([export_all, nowarn_export_all]).

-define(NAME, t_logging).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_task_logs_with_level_pid_and_time,
        a_task_that_throws_has_both_reports,
        a_spawned_function_that_fails_has_a_crash_report,
        orderly_ends_are_not_logged,
        any_bytes_can_be_logged,
        a_flood_is_cut_and_said_to_be,
        events_sent_to_the_c_node_do_not_come_back
    ].

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    Talks = filename:join(filename:dirname(esp_test_lib:plugin()), "talks.so"),
    [{started, Started}, {owner, rpc_SUITE:start_node(?NAME, #{plugins => [Talks]})} | Config].

end_per_suite(Config) ->
    rpc_SUITE:stop_node(proplists:get_value(owner, Config)),
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

init_per_testcase(_, Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, all),
    ok = logger:add_handler(?MODULE, ?MODULE, #{
        config => self(), level => all, filters => [], filter_default => log
    }),
    [{level, Level} | Config].

end_per_testcase(_, Config) ->
    ok = logger:remove_handler(?MODULE),
    ok = logger:set_primary_config(level, proplists:get_value(level, Config)),
    true = is_pid(whereis(logger)),
    true = is_pid(whereis(logger_proxy)).

%% As a logger handler: events of the C-node's processes, and how they print.
log(Event = #{level := Level, meta := Meta = #{pid := Pid}}, #{config := To}) when
    node(Pid) =/= node()
->
    Text = unicode:characters_to_list(logger_formatter:format(Event, #{single_line => false})),
    To ! {event, Level, Meta, Text};
log(_, _) ->
    ok.

event() ->
    receive
        {event, Level, Meta, Text} -> {Level, Meta, Text}
    after 10_000 -> ct:fail({waited_in_vain_for, event})
    end.

has(Text, Part) -> string:find(Text, Part) =/= nomatch orelse ct:fail({no, Part, in, Text}).

talker(Opts) ->
    Template = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
    {ok, Coop} = coop:start_link(Template, Opts#{node => ?NAME}),
    Coop.

a_task_logs_with_level_pid_and_time(_) ->
    Coop = talker(#{}),
    ok = coop:relay_data(Coop, {log, <<"grüß dich"/utf8>>}),
    {notice, Meta, Text} = event(),
    has(Text, "grüß dich"),
    #{pid := Pid, time := Time, gl := Gl} = Meta,
    true = node(Gl) =:= node(),
    true = node(Pid) =:= esp_node:node(?NAME),
    true = abs(Time - erlang:system_time(microsecond)) < 60_000_000,
    ok = coop:stop(Coop).

a_task_that_throws_has_both_reports(_) ->
    process_flag(trap_exit, true),
    Coop = talker(#{}),
    Head = coop:head(Coop),
    ok = coop:relay_data(Coop, {throw, <<"too bad">>}),
    {error, #{domain := [otp]}, Terminate} = event(),
    has(Terminate, "Last message"),
    has(Terminate, "too bad"),
    {error, #{domain := [otp, sasl]}, Crash} = event(),
    has(Crash, "crasher:"),
    has(Crash, "initial call: talks:talk/1"),
    has(Crash, "exception error: {cpp_exception,"),
    has(Crash, "too bad"),
    {error, _, Terminated} = event(),
    has(Terminated, "{coop,terminated}"),
    has(Terminated, "data: {at_least,1}"),
    receive
        {'EXIT', Head, Reason} ->
            {{cpp_exception, <<"std::runtime_error">>, <<"too bad">>}, _} = Reason
    end.

a_spawned_function_that_fails_has_a_crash_report(_) ->
    P = spawn(esp_node:node(?NAME), no, such, [1]),
    {error, #{pid := P}, Text} = event(),
    has(Text, "crasher:"),
    has(Text, "initial call: no:such/1"),
    has(Text, "exception error: undefined function no:such/1").

orderly_ends_are_not_logged(_) ->
    N = esp_node:node(?NAME),
    [
        begin
            {_, R} = spawn_monitor(N, erlang, exit, [Reason]),
            Reason = esp_test_lib:down(R)
        end
     || Reason <- [normal, shutdown, {shutdown, x}, another]
    ],
    P = spawn(N, no, such, [1]),
    {error, #{pid := P}, _} = event().

any_bytes_can_be_logged(_) ->
    Coop = talker(#{}),
    Bytes = list_to_binary(lists:seq(0, 255)),
    ok = coop:relay_data(Coop, {log, Bytes}),
    {notice, _, Text} = event(),
    has(Text, [255]),
    ok = coop:relay_data(Coop, {log, binary:copy(<<"x">>, 1 bsl 20)}),
    {notice, _, Cut} = event(),
    true = length(Cut) < 100_000,
    ok = coop:stop(Coop).

a_flood_is_cut_and_said_to_be(_) ->
    Coop = talker(#{}),
    [ok = coop:relay_data(Coop, {log, integer_to_binary(I)}) || I <- lists:seq(1, 5000)],
    ok = coop:flush(Coop, 10_000),
    %% one more once there is room again: it brings the count
    esp_test_lib:eventually(said_to_be_left_out, fun() ->
        ok = coop:relay_data(Coop, {log, <<"and one more">>}),
        ok = coop:flush(Coop, 10_000),
        lists:any(
            fun({event, _, _, Text}) -> string:find(Text, "were left out") =/= nomatch end,
            esp_test_lib:mailbox()
        )
    end),
    ok = coop:stop(Coop).

events_sent_to_the_c_node_do_not_come_back(_) ->
    Proxy = {logger_proxy, esp_node:node(?NAME)},
    Meta = #{pid => erpc:call(esp_node:node(?NAME), erlang, whereis, [rex]), time => 0},
    Proxy ! {log, error, "~p", [x], Meta},
    Proxy ! {log, info, "text", Meta},
    %% handled in order: this answer comes behind them
    {status, _, _, _} = sys:get_status(Proxy),
    [] = esp_test_lib:mailbox().
