%% Co-ops of Erlang tasks alone, on this VM, without any C-node.
-module(coop_vm_SUITE).

-export([all/0, suite/0, groups/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1, pids/1, monitors/1, pid/2]).

suite() ->
    [{timetrap, {seconds, 30}}].

all() ->
    [{group, G} || G <- [data, flow_control, starting, ending, supervision, manners]].

groups() ->
    [
        {data, [], [
            a_pipeline_keeps_the_order_given,
            every_entry_gets_every_datum,
            a_task_may_return_none_one_many_or_by_name,
            a_name_that_is_not_downstream_ends_the_node,
            a_return_of_another_form_ends_the_node,
            a_task_may_be_a_function_of_a_module,
            results_go_to_a_receiver_of_each_kind,
            results_carry_the_tag,
            a_plain_message_is_a_datum,
            a_gen_call_is_a_datum_that_a_task_may_answer,
            a_batch_keeps_its_order,
            a_call_returns_the_first_result_and_spares_the_receiver,
            a_call_without_result_times_out_and_leaves_nothing,
            a_call_that_kills_the_task_says_why,
            flush_returns_after_all_results,
            totals_come_out_with_the_flush,
            flushes_may_overlap,
            flush_of_a_dead_coop_is_an_error
        ]},
        {flow_control, [], [
            a_burst_never_exceeds_the_credit_of_the_head,
            a_slow_node_stops_those_who_relay,
            callers_without_credit_are_served_in_order,
            a_caller_that_gives_up_returns_its_credit,
            a_caller_that_dies_returns_its_credit,
            waiting_callers_hear_of_the_end_of_the_head,
            priority_data_overtake_what_waits_at_the_head,
            a_datum_beyond_the_credit_goes_alone,
            a_datum_beyond_128_mb_is_refused,
            plain_messages_beyond_max_queue_are_shed_and_counted,
            plain_messages_beyond_max_queue_bytes_are_shed,
            a_receiver_that_never_reads_is_not_flooded,
            a_receiver_that_waits_in_coop_is_not_waited_for,
            a_coop_that_receives_gives_credit,
            a_blocked_node_still_answers
        ]},
        {starting, [], [
            the_pid_is_linked_before_it_is_returned,
            inits_have_run_when_start_link_returns,
            a_failing_init_leaves_nothing_behind,
            an_init_that_is_killed_leaves_nothing_behind,
            mistakes_are_named_before_anything_starts,
            a_name_is_as_good_as_the_pid,
            a_name_that_is_taken_is_an_error,
            a_handle_is_as_good_as_the_pid,
            a_clone_is_another_coop_of_the_same_kind,
            a_parent_killed_while_it_starts_leaves_nothing_behind
        ]},
        {ending, [], [
            whoever_dies_all_die_of_the_same,
            whoever_is_killed_all_are_killed,
            a_node_that_ends_normally_ends_all,
            a_crash_in_a_task_is_reported_once,
            stop_waits_for_the_body,
            stop_carries_the_reason,
            the_parents_normal_end_ends_the_coop,
            an_exit_signal_ends_the_head_and_a_plain_message_does_not,
            a_thousand_nodes_die_together
        ]},
        {supervision, [], [
            {group, gen_server_child},
            {group, coop_child},
            a_restart_waits_for_what_the_former_left,
            which_children_and_restart_child_work
        ]},
        {gen_server_child, [], supervised()},
        {coop_child, [], supervised()},
        {manners, [], [
            every_process_answers_sys_when_idle,
            every_process_answers_sys_when_suspended,
            every_process_changes_code_when_suspended,
            every_process_drops_plain_exit_messages,
            a_forged_envelope_is_none,
            every_process_answers_coop_requests,
            every_process_terminates_as_told,
            the_state_of_a_node_is_its_tasks,
            the_state_of_head_and_switch_is_not_to_be_changed,
            a_suspended_node_keeps_data_in_order,
            a_suspended_head_keeps_data_in_order,
            a_busy_node_answers_after_its_datum,
            control_overtakes_data,
            debug_events_show_what_goes_in_and_out,
            a_down_of_the_tasks_own_monitor_is_a_datum,
            code_change_is_the_tasks,
            is_live_and_info_tell_the_truth
        ]}
    ].

supervised() ->
    [
        shutdown_ends_it_with_shutdown,
        brutal_kill_ends_it_with_killed,
        a_crash_restarts_it,
        intensity_is_respected,
        children_stop_in_reverse_order,
        a_normal_end_restarts_only_a_permanent_one,
        the_supervisors_end_ends_it
    ].

init_per_suite(Config) ->
    [{started, esp_test_lib:start_app()} | Config].

end_per_suite(Config) ->
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

init_per_group(gen_server_child, Config) -> [{child, fun server_child/1} | Config];
init_per_group(coop_child, Config) -> [{child, fun coop_child/1} | Config];
init_per_group(_, Config) -> Config.

end_per_group(_, _) -> ok.

%%% Tasks

id(S, D) -> {S, D}.

pass(Name) -> pass(Name, #{}).
pass(Name, Opts) -> coop:task(Name, fun id/2, Opts).

%% Tells the test what it got.
spy(Name, To) -> spy(Name, To, #{}).
spy(Name, To, Opts) ->
    coop:task(
        Name,
        fun(S, D) ->
            To ! {Name, D},
            {S, D}
        end,
        Opts
    ).

%% Stays with {wait, Pid} until told to go on; all else it passes.
gate(Name) ->
    coop:task(
        Name,
        fun
            (S, {wait, Pid}) ->
                Pid ! {waiting, Name, self()},
                receive
                    {go, Pid} -> {S + 1}
                end;
            (S, D) ->
                {S + 1, D}
        end,
        #{init => fun() -> 0 end}
    ).

start(Nodes) -> start(Nodes, #{receiver => self()}).
start(Nodes, Opts) when is_list(Nodes) -> start(coop_flow:pipeline(Nodes), Opts);
start(Template, Opts) ->
    {ok, Coop} = coop:start_link(Template, Opts),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    [] = mailbox().

switch(Coop) ->
    #{switches := [Switch]} = coop:info(Coop),
    Switch.

relay(Coop, Data) ->
    [ok = coop:relay_data(Coop, D) || D <- Data],
    ok.

%%% Data

a_pipeline_keeps_the_order_given(_) ->
    Inc = fun(S, D) -> {S, D + 1} end,
    Coop = start([coop:task(N, Inc, #{}) || N <- [a, b, c, d]], #{receiver => self(), window => 3}),
    relay(Coop, lists:seq(1, 500)),
    ok = coop:flush(Coop, 5000),
    Expected = lists:seq(5, 504),
    Expected = mailbox(),
    stop(Coop).

every_entry_gets_every_datum(_) ->
    T = coop_flow:graph([pass(a), pass(b), spy(c, self())], [{a, c}, {b, c}]),
    Coop = start(T, #{}),
    relay(Coop, [1, 2]),
    ok = coop:flush(Coop, 5000),
    [{c, 1}, {c, 1}, {c, 2}, {c, 2}] = lists:sort(mailbox()),
    stop(Coop).

a_task_may_return_none_one_many_or_by_name(_) ->
    Task = fun
        (S, none) -> {S};
        (S, many) -> {S, many, [1, 2, 3]};
        (S, to) -> {S, to, [{c, x}, {b, y}, {c, z}]};
        (S, one) -> {S, one}
    end,
    T = coop_flow:fanout(coop:task(a, Task, #{}), [spy(b, self()), spy(c, self())], none),
    Coop = start(T, #{}),
    relay(Coop, [none, many, to, one]),
    ok = coop:flush(Coop, 5000),
    {InB, InC} = lists:partition(fun({N, _}) -> N =:= b end, mailbox()),
    [1, 2, 3, y, one] = [D || {b, D} <- InB],
    [1, 2, 3, x, z, one] = [D || {c, D} <- InC],
    stop(Coop).

a_name_that_is_not_downstream_ends_the_node(_) ->
    {not_downstream, z} = ends_with([coop:task(a, fun(S, D) -> {S, to, [{z, D}]} end, #{}), pass(b)]).

a_return_of_another_form_ends_the_node(_) ->
    {bad_return_value, 7} = ends_with([coop:task(a, fun(_, D) -> D end, #{})]).

ends_with(Nodes) ->
    process_flag(trap_exit, true),
    Coop = start(Nodes),
    relay(Coop, [7]),
    receive
        {'EXIT', Coop, {Reason, [_ | _]}} -> Reason
    after 5000 -> ct:fail(still_there)
    end.

twice(S, D) -> {S, D * 2}.

a_task_may_be_a_function_of_a_module(_) ->
    Coop = start([coop:task(a, {?MODULE, twice}, #{init => {lists, seq, [1, 3]}})]),
    relay(Coop, [4]),
    [8] = take(1),
    [1, 2, 3] = sys:get_state(pid(Coop, a)),
    stop(Coop).

results_go_to_a_receiver_of_each_kind(_) ->
    register(the_receiver, self()),
    Last = start([pass(z)]),
    [
        begin
            Coop = start([pass(a)], #{receiver => Receiver}),
            relay(Coop, [hello]),
            ok = coop:flush(Coop, 5000),
            [hello] = take(1),
            stop(Coop)
        end
     || Receiver <- [self(), the_receiver, {the_receiver, node()}, Last, coop:'of'(Last)]
    ],
    None = start([pass(a)], #{receiver => none}),
    relay(None, [hello]),
    ok = coop:flush(None, 5000),
    [] = mailbox(),
    stop(None),
    stop(Last),
    unregister(the_receiver).

results_carry_the_tag(_) ->
    Coop = start([pass(a)], #{receiver => self(), tag => {my, tag}}),
    relay(Coop, [1]),
    [{{my, tag}, 1}] = take(1),
    stop(Coop).

a_plain_message_is_a_datum(_) ->
    Coop = start([pass(a)]),
    Data = [hello, {a, b, c}, {system, x}, {'DOWN', make_ref(), process, self(), x}, {'EXIT', x}, [], {}],
    [Coop ! D || D <- Data],
    [pid(Coop, a) ! D || D <- Data],
    ok = coop:flush(Coop, 5000),
    Expected = lists:sort(Data ++ Data),
    Expected = lists:sort(mailbox()),
    stop(Coop).

a_gen_call_is_a_datum_that_a_task_may_answer(_) ->
    Task = fun(S, {'$gen_call', From, Request}) ->
        gen_server:reply(From, {you_asked, Request}),
        {S}
    end,
    Coop = start([pass(a), coop:task(b, Task, #{})]),
    {you_asked, hello} = gen_server:call(Coop, hello),
    stop(Coop).

a_batch_keeps_its_order(_) ->
    Coop = start([pass(a)]),
    Data = [binary:copy(<<I:32>>, I) || I <- lists:seq(1, 300)],
    ok = coop:relay_batch(Coop, Data),
    ok = coop:relay_batch(Coop, []),
    ok = coop:flush(Coop, 5000),
    Data = mailbox(),
    stop(Coop).

a_call_returns_the_first_result_and_spares_the_receiver(_) ->
    Many = fun(S, D) -> {S, many, [{D, 1}, {D, 2}]} end,
    Coop = start([coop:task(a, Many, #{}), pass(b)]),
    {ok, {x, 1}} = coop:call(Coop, x, 5000),
    {ok, {y, 1}} = coop:call(Coop, y, infinity),
    ok = coop:flush(Coop, 5000),
    [] = mailbox(),
    relay(Coop, [z]),
    [{z, 1}, {z, 2}] = take(2),
    stop(Coop).

a_call_without_result_times_out_and_leaves_nothing(_) ->
    Coop = start([gate(a)]),
    Self = self(),
    Caller = spawn_monitor(fun() ->
        {error, timeout} = coop:call(Coop, {wait, Self}, 50),
        [] = mailbox(),
        exit(done)
    end),
    [{waiting, a, Pid}] = take(1),
    done = down(element(2, Caller)),
    Pid ! {go, self()},
    %% the late result finds nobody
    {ok, x} = coop:call(Coop, x, 5000),
    stop(Coop).

a_call_that_kills_the_task_says_why(_) ->
    process_flag(trap_exit, true),
    Coop = start([coop:task(a, fun(_, _) -> exit(because) end, #{})]),
    {error, because} = coop:call(Coop, x, 5000),
    [{'EXIT', Coop, because}] = take(1),
    {error, noproc} = coop:call(Coop, x, 5000),
    [] = mailbox().

flush_returns_after_all_results(_) ->
    T = coop_flow:fanout(pass(r, #{dataflow => round_robin}), [pass(w1), pass(w2), pass(w3)], none),
    Coop = start(T, #{receiver => self(), window => 2}),
    [
        begin
            relay(Coop, lists:seq(1, N)),
            ok = coop:flush(Coop, 5000),
            N = length(mailbox())
        end
     || N <- [0, 1, 5, 100, 1000]
    ],
    stop(Coop).

counter(Name) ->
    coop:task(Name, fun(S, D) -> {S + D} end, #{
        init => fun() -> 0 end, flush => fun(S) -> {0, {total, S}} end
    }).

totals_come_out_with_the_flush(_) ->
    Workers = [counter(N) || N <- [w1, w2]],
    T = coop_flow:fanout(pass(r, #{dataflow => round_robin}), Workers, pass(f)),
    Coop = start(T, #{receiver => self()}),
    relay(Coop, [1, 2, 3, 4]),
    ok = coop:flush(Coop, 5000),
    [{total, 4}, {total, 6}] = lists:sort(mailbox()),
    ok = coop:flush(Coop, 5000),
    [{total, 0}, {total, 0}] = mailbox(),
    stop(Coop).

flushes_may_overlap(_) ->
    Coop = start([counter(a), pass(b)]),
    Refs = [
        begin
            relay(Coop, [I]),
            Ref = make_ref(),
            Coop ! {'$coop', flush, {self(), Ref}},
            Ref
        end
     || I <- lists:seq(1, 100)
    ],
    ok = coop:flush(Coop, 5000),
    Expected = lists:append([
        [{total, I}, {'$coop', flushed, Ref, 1}]
     || {I, Ref} <- lists:zip(lists:seq(1, 100), Refs)
    ]),
    Expected = lists:droplast(mailbox()),
    stop(Coop).

flush_of_a_dead_coop_is_an_error(_) ->
    Coop = start([pass(a)]),
    stop(Coop),
    {error, noproc} = coop:flush(Coop, 5000),
    {error, noproc} = coop:flush(no_such_name, 5000),
    [] = mailbox().

%%% Flow control

%% Somebody who relays, and says when he is through; {credit, N} of each 64.
relayer(Coop, Data) ->
    Self = self(),
    spawn_monitor(fun() ->
        Self ! {relayed, self(), [coop:relay_data(Coop, D) || D <- Data]}
    end).

waits_for_credit(Pid) ->
    eventually({to_wait_for_credit, Pid}, fun() ->
        {current_stacktrace, Stack} = process_info(Pid, current_stacktrace),
        lists:keymember(coop_credit, 1, Stack) andalso
            process_info(Pid, status) =:= {status, waiting}
    end).

a_burst_never_exceeds_the_credit_of_the_head(_) ->
    Coop = start([pass(a)], #{}),
    ok = sys:suspend(Coop),
    {Pid, Ref} = relayer(Coop, lists:seq(1, 20_000)),
    waits_for_credit(Pid),
    %% 256 KiB, 256 bytes each
    #{queue := 1024, control := 0} = coop:info(Coop),
    {message_queue_len, 0} = process_info(Coop, message_queue_len),
    ok = sys:resume(Coop),
    [{relayed, Pid, Results}] = take(1),
    [ok] = lists:usort(Results),
    normal = down(Ref),
    ok = coop:flush(Coop, 5000),
    #{in := 20_000, out := 20_000, dropped := 0} = coop:info(Coop),
    stop(Coop).

a_slow_node_stops_those_who_relay(_) ->
    Coop = start([gate(a), pass(b)], #{window => 10}),
    relay(Coop, [{wait, self()}]),
    [{waiting, a, Gate}] = take(1),
    {Pid, _} = relayer(Coop, lists:seq(1, 20_000)),
    waits_for_credit(Pid),
    %% the window of the edge is at the gate, the credit at the head
    #{queue := Queue, blocked := true, out := 10} = coop:info(Coop),
    true = Queue =< 1024,
    {message_queue_len, 9} = process_info(Gate, message_queue_len),
    Gate ! {go, self()},
    [{relayed, Pid, _}, {'DOWN', _, _, _, _}] = take(2),
    ok = coop:flush(Coop, 5000),
    #{in := 20_000} = coop_process:ask(pid(Coop, b), info, 5000),
    stop(Coop).

%% A co-op with nothing left of its credit: three quarters went to a datum that
%% is larger, the last to one that costs just that (six bytes of it its header).
-define(QUARTER, (64 * 1024 - 6)).
exhausted() ->
    Coop = start([pass(a)]),
    ok = sys:suspend(Coop),
    {Pid, _} = relayer(Coop, [
        binary:copy(<<0>>, 256 * 1024), binary:copy(<<0>>, ?QUARTER), first
    ]),
    waits_for_credit(Pid),
    Coop.

%% Two do not have credit together, so that one is served when the one before is
%% through: callers that are served together do not keep step with each other.
callers_without_credit_are_served_in_order(_) ->
    Coop = exhausted(),
    Large = binary:copy(<<1>>, 300_000),
    [
        begin
            {Pid, _} = relayer(Coop, [{I, Large}]),
            waits_for_credit(Pid)
        end
     || I <- lists:seq(1, 5)
    ],
    ok = sys:resume(Coop),
    eventually(all_relayed, fun() -> maps:get(in, coop:info(Coop)) =:= 8 end),
    ok = coop:flush(Coop, 5000),
    [1, 2, 3, 4, 5] = [I || {I, Bin} <- mailbox(), Bin =:= Large],
    stop(Coop).

a_caller_that_gives_up_returns_its_credit(_) ->
    Coop = exhausted(),
    {error, timeout} = coop:call(Coop, binary:copy(<<1>>, 200_000), 20),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, 5000),
    %% all of it is there again, and for one who takes what one may
    ok = coop:relay_data(Coop, binary:copy(<<2>>, 300_000)),
    ok = coop:flush(Coop, 5000),
    Sizes = [byte_size(M) || M <- mailbox(), is_binary(M)],
    [262144, ?QUARTER, 300000] = Sizes,
    stop(Coop).

a_caller_that_dies_returns_its_credit(_) ->
    Coop = exhausted(),
    {Pid, Ref} = relayer(Coop, [binary:copy(<<1>>, 200_000)]),
    waits_for_credit(Pid),
    {Next, _} = relayer(Coop, [next]),
    waits_for_credit(Next),
    exit(Pid, kill),
    killed = down(Ref),
    ok = sys:resume(Coop),
    ok = coop:relay_data(Coop, binary:copy(<<2>>, 300_000)),
    ok = coop:flush(Coop, 5000),
    Got = mailbox(),
    true = lists:member(next, Got),
    [262144, ?QUARTER, 300000] = [byte_size(M) || M <- Got, is_binary(M)],
    stop(Coop).

waiting_callers_hear_of_the_end_of_the_head(_) ->
    process_flag(trap_exit, true),
    Coop = exhausted(),
    {Pid, _} = relayer(Coop, [late]),
    waits_for_credit(Pid),
    exit(Coop, kill),
    Results = lists:append([R || {relayed, _, R} <- take(5)]),
    [ok, ok, {error, noproc}, {error, noproc}] = lists:sort(Results),
    {error, noproc} = coop:relay_data(Coop, x),
    {error, noproc} = coop:relay_high_priority_data(Coop, x),
    {error, noproc} = coop:relay_batch(Coop, [x]).

priority_data_overtake_what_waits_at_the_head(_) ->
    Coop = start([pass(a)]),
    ok = sys:suspend(Coop),
    relay(Coop, [1, 2, 3]),
    ok = coop:relay_high_priority_data(Coop, first),
    ok = coop:relay_high_priority_data(Coop, second),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, 5000),
    [first, second, 1, 2, 3] = mailbox(),
    stop(Coop).

a_datum_beyond_the_credit_goes_alone(_) ->
    Coop = start([pass(a)]),
    Large = binary:copy(<<7>>, 3 * 1024 * 1024),
    relay(Coop, [small, Large, Large, small]),
    ok = coop:flush(Coop, 5000),
    [small, Large, Large, small] = mailbox(),
    stop(Coop).

a_datum_beyond_128_mb_is_refused(_) ->
    Coop = start([pass(a)]),
    Large = binary:copy(<<0>>, 128 * 1024 * 1024),
    {error, too_large} = coop:relay_data(Coop, Large),
    {error, too_large} = coop:relay_high_priority_data(Coop, Large),
    {error, too_large} = coop:call(Coop, Large, 5000),
    {error, too_large} = coop:relay_batch(Coop, [Large]),
    ok = coop:flush(Coop, 5000),
    stop(Coop).

plain_messages_beyond_max_queue_are_shed_and_counted(_) ->
    Coop = start([pass(a)], #{receiver => self(), max_queue => 10}),
    ok = sys:suspend(Coop),
    [Coop ! I || I <- lists:seq(1, 25)],
    #{queue := 10, dropped := 15} = coop:info(Coop),
    %% data with credit are not shed
    relay(Coop, [a, b]),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, 5000),
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, a, b] = mailbox(),
    stop(Coop).

plain_messages_beyond_max_queue_bytes_are_shed(_) ->
    Coop = start([pass(a)], #{receiver => self(), max_queue_bytes => 1000}),
    ok = sys:suspend(Coop),
    [Coop ! binary:copy(<<I>>, 400) || I <- lists:seq(1, 5)],
    #{queue := 2, dropped := 3} = coop:info(Coop),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, 5000),
    2 = length(mailbox()),
    Coop ! more,
    [more] = take(1),
    stop(Coop).

a_receiver_that_never_reads_is_not_flooded(_) ->
    Receiver = spawn_link(fun() ->
        receive
            read -> swallow(0)
        end
    end),
    Coop = start([pass(a)], #{receiver => Receiver, window => 100}),
    {Pid, _} = relayer(Coop, lists:seq(1, 20_000)),
    waits_for_credit(Pid),
    eventually(last_tier_blocked, fun() ->
        maps:get(blocked, coop_process:ask(pid(Coop, a), info, 5000))
    end),
    {message_queue_len, Length} = process_info(Receiver, message_queue_len),
    true = Length =< 200,
    Receiver ! read,
    [{relayed, Pid, _}, {'DOWN', _, _, _, _}] = take(2),
    ok = coop:flush(Coop, 5000),
    Receiver ! {count, self()},
    [20_000] = take(1),
    stop(Coop).

swallow(N) ->
    receive
        {count, Pid} -> Pid ! N;
        _ -> swallow(N + 1)
    end.

a_receiver_that_waits_in_coop_is_not_waited_for(_) ->
    Coop = start([pass(a)], #{receiver => self(), window => 10}),
    relay(Coop, lists:seq(1, 20_000)),
    ok = coop:flush(Coop, 5000),
    20_000 = length(mailbox()),
    stop(Coop).

a_coop_that_receives_gives_credit(_) ->
    Second = start([gate(b)], #{window => 10}),
    First = start([pass(a)], #{receiver => coop:'of'(Second), window => 10}),
    relay(Second, [{wait, self()}]),
    [{waiting, b, Gate}] = take(1),
    {Pid, _} = relayer(First, lists:seq(1, 10_000)),
    waits_for_credit(Pid),
    #{queue := Waiting} = coop:info(Second),
    true = Waiting =< 10,
    Gate ! {go, self()},
    [{relayed, Pid, _}, {'DOWN', _, _, _, _}] = take(2),
    ok = coop:flush(First, 5000),
    ok = coop:flush(Second, 5000),
    10_001 = sys:get_state(Gate),
    stop(First),
    stop(Second).

a_blocked_node_still_answers(_) ->
    Many = coop:task(a, fun(S, N) -> {S + 1, many, lists:seq(1, N)} end, #{init => fun() -> 0 end}),
    Coop = start([Many, gate(b)], #{receiver => self(), window => 5}),
    relay(Coop, [1]),
    [1] = take(1),
    pid(Coop, b) ! {wait, self()},
    [{waiting, b, Gate}] = take(1),
    relay(Coop, [100]),
    A = pid(Coop, a),
    eventually(a_blocked, fun() -> maps:get(blocked, coop_process:ask(A, info, 5000)) end),
    2 = sys:get_state(A),
    esp_test_lib:answers_sys_when_idle(A),
    esp_test_lib:answers_sys_when_suspended(A),
    Gate ! {go, self()},
    ok = coop:flush(Coop, 5000),
    Expected = lists:seq(1, 100),
    Expected = mailbox(),
    stop(Coop).

%%% Starting

the_pid_is_linked_before_it_is_returned(_) ->
    Coop = start([pass(a)]),
    {links, Links} = process_info(self(), links),
    true = lists:member(Coop, Links),
    %% and is all that the parent is linked to
    [] = Links -- [Coop | Links -- pids(Coop)],
    stop(Coop).

inits_have_run_when_start_link_returns(_) ->
    Self = self(),
    Init = fun(N) -> fun() -> Self ! {init, N, self()}, N end end,
    Coop = start([pass(N, #{init => Init(N)}) || N <- [a, b]]),
    [{init, a, A}, {init, b, B}] = mailbox(),
    [A, B] = [pid(Coop, a), pid(Coop, b)],
    [a, b] = [sys:get_state(P) || P <- [A, B]],
    stop(Coop).

%% Starts what cannot start, and returns what was there on the way.
fails_to_start(Init) ->
    Self = self(),
    Good = #{init => fun() -> Self ! {started, self()} end},
    {links, Links} = process_info(self(), links),
    T = coop_flow:pipeline([pass(a, Good), pass(b, #{init => Init}), pass(c, Good)]),
    {error, Reason} = coop:start_link(T, #{name => never_started}),
    [{started, A}] = mailbox(),
    false = is_process_alive(A),
    {links, Links} = process_info(self(), links),
    {monitors, []} = process_info(self(), monitors),
    undefined = whereis(never_started),
    Reason.

a_failing_init_leaves_nothing_behind(_) ->
    process_flag(trap_exit, true),
    {init, b, {oops, [_ | _]}} = fails_to_start(fun() -> error(oops) end),
    {init, b, oops} = fails_to_start(fun() -> exit(oops) end),
    {init, b, normal} = fails_to_start(fun() -> exit(normal) end),
    {init, b, {{nocatch, oops}, _}} = fails_to_start(fun() -> throw(oops) end).

an_init_that_is_killed_leaves_nothing_behind(_) ->
    process_flag(trap_exit, true),
    {init, b, killed} = fails_to_start(fun() -> exit(self(), kill) end).

mistakes_are_named_before_anything_starts(_) ->
    Self = self(),
    First = pass(first, #{init => fun() -> Self ! started end}),
    Spec = fun(Node) -> coop_flow:pipeline([First, Node]) end,
    Task = fun(Opts) -> Spec(pass(a, Opts)) end,
    Native = fun(Opts) -> Spec(coop:native(a, p, t, Opts)) end,
    Fun = fun(X) -> X end,
    [
        {Expected, {error, Expected}} = {Expected, coop:start_link(T, Opts)}
     || {Expected, T, Opts} <- [
            {{bad_node, a, {undef, {no_such_module, f, 2}}},
                Spec(coop:task(a, {no_such_module, f}, #{})), #{}},
            {{bad_node, a, {undef, {lists, no_such, 2}}}, Spec(coop:task(a, {lists, no_such}, #{})), #{}},
            {{bad_node, a, {undef, {lists, no_such, 1}}}, Task(#{init => {lists, no_such, [1]}}), #{}},
            {{bad_node, a, {bad_task, Fun}}, Spec(coop:task(a, Fun, #{})), #{}},
            {{bad_node, a, {bad_option, no_such}}, Task(#{no_such => 1}), #{}},
            {{bad_node, a, {bad_option, {init, 7}}}, Task(#{init => 7}), #{}},
            {{bad_node, a, {bad_option, {flush, 7}}}, Task(#{flush => 7}), #{}},
            {{bad_node, a, {bad_option, []}}, Task([]), #{}},
            {{bad_node, a, {bad_dataflow, no_such}}, Task(#{dataflow => no_such}), #{}},
            {{bad_node, a, {bad_dataflow, {hash, {element, 0}}}},
                Task(#{dataflow => {hash, {element, 0}}}), #{}},
            {{bad_node, a, {bad_dataflow, {select, no_task_of_a_vm}}},
                Task(#{dataflow => {select, no_task_of_a_vm}}), #{}},
            {{bad_node, a, {native_needs, {hash, [all, element, key, task]}}},
                Native(#{dataflow => {hash, Fun}}), #{}},
            {{bad_node, a, {native_needs, {select, [all, element, key, task]}}},
                Native(#{dataflow => {select, Fun}}), #{}},
            {{bad_node, a, {bad_option, init}}, Native(#{init => Fun}), #{}} |
            [{Reason, Task(#{}), Opts} || {Reason, Opts} <- bad_options()]
        ]
    ],
    [] = mailbox().

bad_options() ->
    [
        {{bad_option, no_such}, #{no_such => 1}},
        {{bad_option, {window, 0}}, #{window => 0}},
        {{bad_option, {max_queue, x}}, #{max_queue => x}},
        {{bad_option, {max_queue_bytes, -1}}, #{max_queue_bytes => -1}},
        {{bad_option, {name, "n"}}, #{name => "n"}},
        {{bad_option, {receiver, "r"}}, #{receiver => "r"}},
        {{bad_option, {start_timeout, soon}}, #{start_timeout => soon}},
        {{bad_option, {stand_in, 1}}, #{stand_in => 1}},
        {{bad_option, []}, []}
    ] ++
        [{{bad_option, {overload, V}}, #{overload => V}} || V <- [no, {sojourn, 0}, {sojourn, x}]].

a_name_is_as_good_as_the_pid(_) ->
    Coop = start([pass(a)], #{receiver => self(), name => my_coop}),
    Coop = whereis(my_coop),
    [
        begin
            ok = coop:relay_data(Name, 1),
            ok = coop:relay_batch(Name, [2]),
            ok = coop:flush(Name, 5000),
            ok = coop:relay_high_priority_data(Name, 3),
            {ok, 4} = coop:call(Name, 4, 5000),
            [1, 2, 3] = take(3),
            true = coop:is_live(Name),
            Coop = coop:head(Name),
            #{name := head, registered := my_coop} = coop:info(Name)
        end
     || Name <- [my_coop, {my_coop, node()}]
    ],
    {my_coop, node()} ! plain,
    [plain] = take(1),
    ok = coop:stop(my_coop),
    false = coop:is_live(my_coop),
    {error, noproc} = coop:relay_data(my_coop, 1).

a_name_that_is_taken_is_an_error(_) ->
    Coop = start([pass(a)], #{name => my_coop}),
    {error, {already_started, Coop}} =
        coop:start_link(coop_flow:pipeline([pass(a)]), #{name => my_coop}),
    [] = mailbox(),
    ok = coop:stop(Coop),
    Next = start([pass(a)], #{name => my_coop}),
    stop(Next).

a_handle_is_as_good_as_the_pid(_) ->
    Coop = start([pass(a)]),
    Handle = coop:'of'(Coop),
    Coop = coop:head(Handle),
    ok = coop:relay_data(Handle, 1),
    ok = coop:flush(Handle, 5000),
    [1] = take(1),
    ok = coop:stop(Handle),
    false = coop:is_live(Handle).

a_clone_is_another_coop_of_the_same_kind(_) ->
    Coop = start([counter(a)], #{receiver => self(), name => original}),
    {ok, Clone} = coop:clone(Coop),
    relay(Clone, [1, 2]),
    ok = coop:flush(Clone, 5000),
    ok = coop:flush(original, 5000),
    [{total, 3}, {total, 0}] = mailbox(),
    ok = coop:stop(Coop),
    relay(Clone, [5]),
    stop(Clone),
    {error, noproc} = coop:clone(Coop).

a_parent_killed_while_it_starts_leaves_nothing_behind(_) ->
    Self = self(),
    Init = fun() ->
        Self ! {in_init, self()},
        receive
            never -> ok
        end
    end,
    T = coop_flow:pipeline([pass(a, #{init => fun() -> Self ! {in_init, self()} end}),
                            pass(b, #{init => Init})]),
    Parent = spawn(fun() -> coop:start_link(T, #{}) end),
    [{in_init, A}, {in_init, B}] = take(2),
    Refs = monitors([A, B]),
    exit(Parent, kill),
    [_, _] = [down(Ref) || Ref <- Refs],
    ok.

%%% Ending

diamond() ->
    coop_flow:graph([pass(N) || N <- [a, b, c, d]], [{a, b}, {a, c}, {b, d}, {c, d}]).

%% Ends a co-op's process in that way, for each of its processes in turn.
each_process(End) ->
    process_flag(trap_exit, true),
    Coop0 = start(diamond(), #{}),
    N = length(pids(Coop0)),
    ok = coop:stop(Coop0),
    [{'EXIT', Coop0, normal}] = mailbox(),
    [
        begin
            Coop = start(diamond(), #{}),
            All = pids(Coop),
            Refs = monitors(All),
            End(lists:nth(I, All)),
            Reasons = lists:usort([down(Ref) || Ref <- Refs]),
            [{'EXIT', Coop, Reason}] = take(1),
            {I, Reason, Reasons}
        end
     || I <- lists:seq(1, N)
    ].

whoever_dies_all_die_of_the_same(_) ->
    %% the kill switch ignores a stranger's signal, as a supervisor does
    Results = each_process(fun(Pid) ->
        case coop_process:ask(Pid, info, 5000) of
            #{role := kill_switch} -> sys:terminate(Pid, boom);
            _ -> exit(Pid, boom)
        end
    end),
    [] = [R || R <- Results, {element(2, R), element(3, R)} =/= {boom, [boom]}].

whoever_is_killed_all_are_killed(_) ->
    Results = each_process(fun(Pid) -> exit(Pid, kill) end),
    [] = [R || R <- Results, {element(2, R), element(3, R)} =/= {killed, [killed]}].

a_node_that_ends_normally_ends_all(_) ->
    Results = each_process(fun(Pid) -> sys:terminate(Pid, normal) end),
    [] = [R || R <- Results, {element(2, R), element(3, R)} =/= {normal, [normal]}].

a_crash_in_a_task_is_reported_once(_) ->
    process_flag(trap_exit, true),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    Coop = start([pass(a), coop:task(b, fun(_, D) -> error({bad, D}) end, #{}), pass(c)]),
    relay(Coop, [1]),
    [{'EXIT', Coop, {{bad, 1}, [{?MODULE, _, _, _} | _]}}] =
        [M || {'EXIT', _, _} = M <- take(2)],
    ok = logger:remove_handler(?MODULE),
    [] = [M || {report, _} = M <- mailbox()].

log(#{msg := {report, #{label := {proc_lib, crash}} = Report}}, #{config := #{to := To}}) ->
    To ! {report, Report};
log(_, _) ->
    ok.

stop_waits_for_the_body(_) ->
    Coop = start([pass(a), pass(b)]),
    All = pids(Coop),
    ok = coop:stop(Coop),
    [] = [Pid || Pid <- All, is_process_alive(Pid)],
    try coop:stop(Coop) of
        ok -> ct:fail(stopped_twice)
    catch
        exit:noproc -> ok
    end.

stop_carries_the_reason(_) ->
    process_flag(trap_exit, true),
    [
        begin
            Coop = start([pass(a), pass(b)]),
            Refs = monitors(pids(Coop)),
            ok = coop:stop(Coop, Reason, 5000),
            [Reason] = lists:usort([down(Ref) || Ref <- Refs]),
            [{'EXIT', Coop, Reason}] = take(1)
        end
     || Reason <- [normal, shutdown, {shutdown, x}, other]
    ].

the_parents_normal_end_ends_the_coop(_) ->
    Self = self(),
    Parent = spawn(fun() ->
        Coop = start([pass(a)]),
        Self ! pids(Coop),
        receive
            finish -> ok
        end
    end),
    [Pids] = take(1),
    Refs = monitors(Pids),
    Parent ! finish,
    [normal] = lists:usort([down(Ref) || Ref <- Refs]).

an_exit_signal_ends_the_head_and_a_plain_message_does_not(_) ->
    process_flag(trap_exit, true),
    Coop = start([pass(a)]),
    exit(Coop, normal),
    Coop ! {'EXIT', self(), boom},
    relay(Coop, [1]),
    [1] = take(1),
    exit(Coop, boom),
    [{'EXIT', Coop, boom}] = take(1).

a_thousand_nodes_die_together(_) ->
    process_flag(trap_exit, true),
    Workers = [pass(list_to_atom("w" ++ integer_to_list(I))) || I <- lists:seq(1, 1000)],
    Coop = start(coop_flow:fanout(pass(r), Workers, pass(f)), #{}),
    relay(Coop, [1]),
    ok = coop:flush(Coop, 5000),
    Refs = monitors(pids(Coop)),
    exit(pid(Coop, w500), boom),
    [boom] = lists:usort([down(Ref) || Ref <- Refs]),
    [{'EXIT', Coop, boom}] = take(1).

%%% Supervision: the same cases with a gen_server and with a co-op

init([To, Name]) ->
    To ! {init, Name, self()},
    {ok, []}.

handle_call(_, _, S) -> {reply, ok, S}.
handle_cast(_, S) -> {noreply, S}.

server_child(Name) ->
    #{id => Name, start => {gen_server, start_link, [?MODULE, [self(), Name], []]}}.

coop_child(Name) ->
    Self = self(),
    Init = fun() -> Self ! {init, Name, self()} end,
    coop:child_spec(#{id => Name, template => coop_flow:pipeline([pass(a, #{init => Init}), pass(b)])}).

supervisor(Flags, Children) ->
    Self = self(),
    spawn_link(fun() ->
        process_flag(trap_exit, true),
        {ok, Sup} = supervisor:start_link(esp_test_sup, {Flags, Children}),
        Self ! {sup, self(), Sup},
        receive
            {'EXIT', Sup, Reason} -> Self ! {sup_ended, Reason};
            {exit, Reason} -> exit(Reason)
        end
    end),
    receive
        {sup, Owner, Sup} -> {Owner, Sup}
    end.

child(Sup, Id) ->
    {Id, Pid, _, _} = lists:keyfind(Id, 1, supervisor:which_children(Sup)),
    Pid.

with_child(Config, Changes, Flags, Fun) ->
    process_flag(trap_exit, true),
    Child = proplists:get_value(child, Config),
    {Owner, Sup} = supervisor(Flags, [maps:merge(Child(x), Changes)]),
    [{init, x, _}] = take(1),
    Fun(Sup, child(Sup, x)),
    Ref = monitor(process, Owner),
    unlink(Owner),
    Owner ! {exit, shutdown},
    _ = down(Ref),
    _ = mailbox(),
    ok.

shutdown_ends_it_with_shutdown(Config) ->
    with_child(Config, #{shutdown => 5000}, #{}, fun(Sup, Pid) ->
        Ref = monitor(process, Pid),
        ok = supervisor:terminate_child(Sup, x),
        shutdown = down(Ref)
    end).

brutal_kill_ends_it_with_killed(Config) ->
    with_child(Config, #{shutdown => brutal_kill}, #{}, fun(Sup, Pid) ->
        Ref = monitor(process, Pid),
        ok = supervisor:terminate_child(Sup, x),
        killed = down(Ref)
    end).

a_crash_restarts_it(Config) ->
    with_child(Config, #{}, #{intensity => 3}, fun(Sup, Pid) ->
        exit(Pid, boom),
        [{init, x, _}] = take(1),
        true = Pid =/= child(Sup, x)
    end).

intensity_is_respected(Config) ->
    with_child(Config, #{}, #{intensity => 2, period => 60}, fun(Sup, _) ->
        Ref = monitor(process, Sup),
        [
            begin
                exit(child(Sup, x), boom),
                [{init, x, _}] = take(1)
            end
         || _ <- [1, 2]
        ],
        exit(child(Sup, x), boom),
        shutdown = down(Ref),
        [{sup_ended, shutdown}] = [M || {sup_ended, _} = M <- take(1)]
    end).

children_stop_in_reverse_order(Config) ->
    process_flag(trap_exit, true),
    Child = proplists:get_value(child, Config),
    {Owner, Sup} = supervisor(#{strategy => rest_for_one}, [Child(N) || N <- [x, y, z]]),
    [{init, x, _}, {init, y, _}, {init, z, _}] = take(3),
    Refs = [{monitor(process, child(Sup, N)), N} || N <- [x, y, z]],
    exit(child(Sup, y), boom),
    [{init, y, _}, {init, z, _}] =
        [M || {init, _, _} = M <- take(4)],
    {_, x} = hd(Refs),
    true = is_process_alive(child(Sup, x)),
    Refs2 = maps:from_list([{monitor(process, child(Sup, N)), N} || N <- [x, y, z]]),
    Owner ! {exit, shutdown},
    [z, y, x] = [maps:get(R, Refs2) || {'DOWN', R, _, _, _} <- take(5), is_map_key(R, Refs2)].

a_normal_end_restarts_only_a_permanent_one(Config) ->
    with_child(Config, #{restart => transient}, #{}, fun(Sup, Pid) ->
        Ref = monitor(process, Pid),
        ok = proc_lib:stop(Pid, normal, 5000),
        normal = down(Ref),
        undefined = child(Sup, x)
    end),
    with_child(Config, #{restart => permanent}, #{}, fun(_Sup, Pid) ->
        ok = proc_lib:stop(Pid, normal, 5000),
        [{init, x, _}] = take(1)
    end).

the_supervisors_end_ends_it(Config) ->
    [
        begin
            process_flag(trap_exit, true),
            Child = proplists:get_value(child, Config),
            {_Owner, Sup} = supervisor(#{}, [Child(x)]),
            [{init, x, _}] = take(1),
            Ref = monitor(process, child(Sup, x)),
            exit(Sup, Reason),
            Expected = down(Ref),
            [{sup_ended, _}] = [M || {sup_ended, _} = M <- take(2)]
        end
     || {Reason, Expected} <- [{kill, killed}]
    ].

%% A node that takes its time to die is gone when its successor's init runs.
a_restart_waits_for_what_the_former_left(_) ->
    process_flag(trap_exit, true),
    Self = self(),
    Init = fun() ->
        process_flag(trap_exit, true),
        Self ! {init, self()},
        Self
    end,
    Slow = fun(To, work) ->
        To ! {working, self()},
        receive
            finish -> {To}
        end
    end,
    T = coop_flow:pipeline([coop:task(a, Slow, #{init => Init})]),
    {Owner, Sup} = supervisor(#{}, [coop:child_spec(#{id => x, template => T})]),
    [{init, A}] = take(1),
    relay(child(Sup, x), [work]),
    [{working, A}] = take(1),
    Ref = monitor(process, A),
    %% the supervisor restarts at once; the former node is still at work
    exit(child(Sup, x), boom),
    A ! finish,
    %% a task that traps exits dies of the grace period
    killed = down(Ref),
    [{init, B}] = take(1),
    true = A =/= B,
    false = is_process_alive(A),
    unlink(Owner),
    Owner ! {exit, kill},
    ok.

which_children_and_restart_child_work(_) ->
    process_flag(trap_exit, true),
    {Owner, Sup} = supervisor(#{}, [coop_child(x)]),
    [{init, x, _}] = take(1),
    [{x, Pid, worker, dynamic}] = supervisor:which_children(Sup),
    ok = supervisor:terminate_child(Sup, x),
    false = is_process_alive(Pid),
    {ok, Pid2} = supervisor:restart_child(Sup, x),
    true = coop:is_live(Pid2),
    [{active, 1}] = [C || {active, _} = C <- supervisor:count_children(Sup)],
    Owner ! {exit, shutdown},
    ok.

%%% Manners

every(Fun) ->
    Coop = start([pass(a), pass(b)], #{}),
    relay(Coop, [1]),
    ok = coop:flush(Coop, 5000),
    [Fun(Pid) || Pid <- pids(Coop)],
    relay(Coop, [2]),
    ok = coop:flush(Coop, 5000),
    stop(Coop).

every_process_answers_sys_when_idle(_) ->
    every(fun esp_test_lib:answers_sys_when_idle/1).

every_process_answers_sys_when_suspended(_) ->
    every(fun esp_test_lib:answers_sys_when_suspended/1).

every_process_changes_code_when_suspended(_) ->
    every(fun esp_test_lib:changes_code_when_suspended/1).

every_process_drops_plain_exit_messages(_) ->
    every(fun esp_test_lib:drops_a_plain_exit_message/1).

%% The data are as good as any. A body made again has nobody to tell of calls that
%% there never were.
a_forged_envelope_is_none(_) ->
    Coop = start([pass(a), pass(b)], #{
        receiver => self(), restart => {body, #{intensity => 5, period => 10}}
    }),
    Envs = [
        junk,
        #{call => junk},
        #{call => {junk, tag}},
        #{call => {self(), tag, x}},
        #{token => junk},
        [junk | junk]
    ],
    Data = [
        {Label, Kind, I}
     || Label <- [[], x], Kind <- [data, priority, batch], I <- lists:seq(1, length(Envs))
    ],
    [
        begin
            [forge(Pid, lists:nth(I, Envs), Datum) || {_, _, I} = Datum <- Data],
            Results = lists:sort(take(length(Data))),
            _ = seq_trace:set_token([]),
            {Pid, Results} = {Pid, lists:sort(Data)}
        end
     || Pid <- [Coop, pid(Coop, a), pid(Coop, b)]
    ],
    [
        Coop ! {'$coop', wire, Switch, Wiring}
     || Switch <- [junk, self()], Wiring <- [junk, #{}, #{out => x, nodes => [], restarted => x}]
    ],
    Coop ! {'$coop', stop_entry, junk},
    {ok, 1} = coop:call(Coop, 1, 5000),
    #{restarts := 0} = coop:info(Coop),
    exit(pid(Coop, a), kill),
    eventually(restarted, fun() -> maps:get(restarts, coop:info(Coop)) =:= 1 end),
    {ok, 2} = coop:call(Coop, 2, 5000),
    stop(Coop).

forge(Pid, Env, {Label, Kind, _} = Datum) ->
    _ = [seq_trace:set_token(label, Label) || Label =/= []],
    Pid ! {'$coop', Kind, 99, 1, Env, case Kind of batch -> [Datum]; _ -> Datum end},
    _ = seq_trace:set_token([]),
    ok.

every_process_answers_coop_requests(_) ->
    Coop = start([pass(a)], #{}),
    [
        esp_test_lib:answers_coop_requests(Pid, Role, Coop)
     || {Pid, Role} <- [{Coop, head}, {pid(Coop, a), node}, {switch(Coop), kill_switch}]
    ],
    stop(Coop).

every_process_terminates_as_told(_) ->
    process_flag(trap_exit, true),
    [
        begin
            Coop = start([pass(a)], #{}),
            esp_test_lib:terminates_with(Which(Coop), Reason),
            [{'EXIT', Coop, Reason}] = take(1)
        end
     || Which <- [fun coop:head/1, fun(C) -> pid(C, a) end, fun switch/1],
        Reason <- [normal, shutdown, boom]
    ].

the_state_of_a_node_is_its_tasks(_) ->
    Coop = start([gate(a)]),
    A = pid(Coop, a),
    0 = sys:get_state(A),
    esp_test_lib:keeps_state_under_replace(A, fun(S) -> S + 41 end),
    relay(Coop, [x]),
    [x] = take(1),
    42 = sys:get_state(A),
    stop(Coop).

the_state_of_head_and_switch_is_not_to_be_changed(_) ->
    Coop = start([pass(a)]),
    [
        begin
            #{role := _} = State = sys:get_state(Pid),
            State = sys:replace_state(Pid, fun(S) -> S end),
            try sys:replace_state(Pid, fun(_) -> other end) of
                _ -> ct:fail(replaced)
            catch
                error:{callback_failed, _, {error, read_only}} -> ok
            end
        end
     || Pid <- [Coop, switch(Coop)]
    ],
    stop(Coop).

keeps_order_suspended(Coop, Pid) ->
    ok = sys:suspend(Pid),
    relay(Coop, lists:seq(1, 50)),
    eventually(all_queued, fun() ->
        maps:get(queue, coop_process:ask(Pid, info, 5000)) =:= 50
    end),
    esp_test_lib:answers_get_modules(Pid),
    [] = mailbox(),
    ok = sys:resume(Pid),
    ok = coop:flush(Coop, 5000),
    Expected = lists:seq(1, 50),
    Expected = mailbox(),
    stop(Coop).

a_suspended_node_keeps_data_in_order(_) ->
    Coop = start([pass(a), pass(b)]),
    keeps_order_suspended(Coop, pid(Coop, b)).

a_suspended_head_keeps_data_in_order(_) ->
    Coop = start([pass(a), pass(b)]),
    keeps_order_suspended(Coop, Coop).

%% A request as sys makes it, without waiting for the answer.
ask(Pid, Request) ->
    Ref = make_ref(),
    Pid ! {system, {self(), Ref}, Request},
    Ref.

%% What OTP 26.1 and later wrap.
unwrapped({ok, State}) -> State;
unwrapped(State) -> State.

a_busy_node_answers_after_its_datum(_) ->
    Coop = start([gate(a)]),
    relay(Coop, [{wait, self()}, x]),
    [{waiting, a, A}] = take(1),
    Ref = ask(A, get_state),
    Suspended = ask(A, suspend),
    A ! {go, self()},
    %% the state after the datum at hand, and before the next
    [{Ref, State}, {Suspended, ok}] = take(2),
    1 = unwrapped(State),
    1 = sys:get_state(A),
    ok = sys:resume(A),
    [x] = take(1),
    stop(Coop).

control_overtakes_data(_) ->
    Coop = start([gate(a)], #{}),
    relay(Coop, [{wait, self()}]),
    [{waiting, a, A}] = take(1),
    [A ! I || I <- lists:seq(1, 500)],
    Ref = ask(A, get_state),
    A ! {go, self()},
    [{Ref, State}] = take(1),
    true = unwrapped(State) < 500,
    ok = coop:flush(Coop, 5000),
    501 = sys:get_state(A),
    stop(Coop).

debug_events_show_what_goes_in_and_out(_) ->
    Coop = start([coop:task(a, fun(S, D) -> {S, D + 1} end, #{})]),
    A = pid(Coop, a),
    ok = sys:log(A, true),
    ok = sys:statistics(A, true),
    relay(Coop, [1]),
    [2] = take(1),
    {ok, [{in, 1}, {out, 2, Self}]} = sys:log(A, get),
    Self = self(),
    {ok, Statistics} = sys:statistics(A, get),
    [1, 1] = [proplists:get_value(K, Statistics) || K <- [messages_in, messages_out]],
    ok = sys:install(A, {fun(To, Event, _) -> To ! Event, To end, self()}),
    relay(Coop, [5]),
    [{in, 5}, 6, {out, 6, Self}] = take(3),
    stop(Coop).

a_down_of_the_tasks_own_monitor_is_a_datum(_) ->
    Watch = fun
        (S, {watch, Pid}) ->
            monitor(process, Pid),
            {S};
        (S, {'DOWN', _, process, Pid, Reason}) ->
            {S, {gone, Pid, Reason}}
    end,
    Coop = start([coop:task(a, Watch, #{})]),
    {Pid, Ref} = spawn_monitor(fun() -> receive M -> exit(M) end end),
    relay(Coop, [{watch, Pid}]),
    ok = coop:flush(Coop, 5000),
    Pid ! away,
    away = down(Ref),
    [{gone, Pid, away}] = take(1),
    stop(Coop).

code_change(OldVsn, State, Extra) -> {ok, {changed, OldVsn, State, Extra}}.

code_change_is_the_tasks(_) ->
    Coop = start([coop:task(a, {?MODULE, twice}, #{})]),
    A = pid(Coop, a),
    ok = sys:suspend(A),
    ok = sys:change_code(A, ?MODULE, "1", extra),
    ok = sys:resume(A),
    {changed, "1", undefined, extra} = sys:get_state(A),
    {ok, [?MODULE]} = gen:call(A, self(), get_modules, 5000),
    stop(Coop).

is_live_and_info_tell_the_truth(_) ->
    Coop = start(diamond(), #{}),
    true = coop:is_live(Coop),
    #{
        role := head,
        nodes := [{a, A}, {b, _}, {c, _}, {d, D}],
        edges := [{a, b}, {a, c}, {b, d}, {c, d}],
        switches := [_],
        relays := 0
    } = coop:info(Coop),
    relay(Coop, [1, 2]),
    ok = coop:flush(Coop, 5000),
    #{in := 2, out := 2, relays := 1} = coop:info(Coop),
    #{in := 2, out := 4, name := a} = coop_process:ask(A, info, 5000),
    #{in := 4, out := 4, name := d} = coop_process:ask(D, info, 5000),
    stop(Coop),
    false = coop:is_live(Coop),
    false = coop:is_live(no_such_name).
