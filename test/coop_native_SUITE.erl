%% Co-ops of native tasks: data, ends, and starts that fail.
-module(coop_native_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1, pids/1, monitors/1, pid/2]).

-define(C_NODE, t_native).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, G} || G <- [data, receivers, starting, ending, faults]].

groups() ->
    [
        {data, [], [
            a_pipeline_keeps_the_order_given,
            every_entry_gets_every_datum,
            a_diamond_keeps_order_on_every_edge,
            a_task_may_return_none_one_or_many,
            a_task_may_emit_by_name,
            typed_values_cross_edges,
            a_window_of_one_is_enough,
            a_call_returns_the_first_result_and_spares_the_receiver,
            a_call_that_kills_the_task_says_why,
            a_call_without_result_times_out,
            totals_come_out_with_the_flush,
            high_priority_data_overtake_what_waits_at_the_head,
            a_task_with_a_larger_stack_has_it,
            a_stack_may_be_asked_for_in_the_template,
            four_hundred_tasks_block_at_once
        ]},
        {receivers, [], [
            results_go_to_a_receiver_of_each_kind,
            results_carry_the_tag,
            a_receiver_that_has_gone_stops_nobody
        ]},
        {starting, [], [
            the_pid_is_linked_before_it_is_returned,
            inits_have_run_when_start_link_returns,
            mistakes_are_named_and_leave_nothing,
            an_init_that_fails_leaves_nothing,
            an_init_that_is_killed_leaves_nothing,
            a_parent_that_ends_meanwhile_leaves_nothing,
            a_c_node_that_is_not_there_is_named,
            a_name_is_as_good_as_the_pid,
            a_name_that_is_taken_is_an_error,
            is_live_and_info_tell_the_truth,
            a_clone_is_another_coop_of_the_same_kind,
            a_start_does_not_wait_for_another
        ]},
        {ending, [], [
            an_exception_is_the_reason,
            esp_exit_is_the_reason,
            ill_typed_data_end_the_node_with_function_clause,
            an_exception_in_flush_is_the_reason,
            exit_2_on_any_node_takes_the_coop_with_that_reason,
            kill_on_any_process_takes_the_coop,
            exit_with_normal_is_ignored,
            stop_leaves_nothing,
            a_blocked_task_ends_at_once,
            a_blocked_task_is_killed_at_once,
            a_killed_task_has_its_state_destroyed,
            a_runaway_task_is_given_up_after_a_second,
            neighbours_of_a_runaway_task_go_on,
            two_hundred_nodes_die_together
        ]},
        {faults, [], [
            a_stack_overflow_names_plugin_and_task,
            a_segfault_names_plugin_and_task,
            an_abort_names_plugin_and_task,
            too_many_abandoned_threads_end_the_c_node
        ]}
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

%%% Helpers

opts() -> #{node => ?C_NODE, receiver => self()}.

native(Name, Plugin, Task) -> native(Name, Plugin, Task, #{}).
native(Name, Plugin, Task, Opts) -> coop:native(Name, Plugin, Task, Opts).

same(Name) -> same(Name, #{}).
same(Name, Opts) -> native(Name, sums, same, Opts).

plus1(Name) -> native(Name, sums, plus1).

label(Name) -> native(Name, routes, label, #{args => Name}).

start(T) -> start(T, #{}).
start(Nodes, More) when is_list(Nodes) -> start(coop_flow:pipeline(Nodes), More);
start(Template, More) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(Template, maps:merge(opts(), More)),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    [{'EXIT', Coop, normal}] = mailbox(),
    ok.

relay(Coop, Data) ->
    [ok = coop:relay_data(Coop, D) || D <- Data],
    ok.

%% All results of these data.
run(Coop, Data) ->
    relay(Coop, Data),
    ok = coop:flush(Coop, ?LIMIT),
    mailbox().

ended(Coop) ->
    receive
        {'EXIT', Coop, Reason} -> Reason
    after ?LIMIT -> ct:fail(still_there)
    end.

await(What) ->
    receive
        {What, Pid} -> Pid
    after ?LIMIT -> ct:fail({waited_in_vain_for, What})
    end.

%%% Data

a_pipeline_keeps_the_order_given(_) ->
    Coop = start([plus1(N) || N <- [a, b, c, d, e]]),
    Expected = lists:seq(6, 5005),
    Expected = run(Coop, lists:seq(1, 5000)),
    stop(Coop).

every_entry_gets_every_datum(_) ->
    Coop = start(coop_flow:graph([label(a), label(b), same(c)], [{a, c}, {b, c}])),
    [{a, 1}, {a, 2}, {b, 1}, {b, 2}] = lists:sort(run(Coop, [1, 2])),
    stop(Coop).

a_diamond_keeps_order_on_every_edge(_) ->
    T = coop_flow:graph(
        [same(r), label(a), label(b), same(z)], [{r, a}, {r, b}, {a, z}, {b, z}]
    ),
    Coop = start(T),
    Got = run(Coop, lists:seq(1, 2000)),
    Expected = lists:seq(1, 2000),
    [Expected = [D || {N, D} <- Got, N =:= Name] || Name <- [a, b]],
    stop(Coop).

a_task_may_return_none_one_or_many(_) ->
    Coop = start([native(a, typed, up_to), native(b, typed, even), plus1(c)]),
    [3, 5, 3] = run(Coop, [0, 5, 1, 2]),
    stop(Coop),
    None = start([native(a, typed, nothing)]),
    [] = run(None, [1, x, "y"]),
    stop(None).

a_task_may_emit_by_name(_) ->
    T = coop_flow:fanout(native(r, typed, by_name), [label(a), label(b)], none),
    Coop = start(T),
    [{a, 1}, {a, 3}, {b, 2}] = lists:sort(run(Coop, [{a, 1}, {b, 2}, {a, 3}])),
    relay(Coop, [{no_such, 1}]),
    {{cpp_exception, <<"std::invalid_argument">>, <<"no downstream node no_such">>}, _} = ended(Coop).

typed_values_cross_edges(_) ->
    Coop = start([native(a, typed, text), native(b, typed, length), native(c, typed, number)]),
    [5, 0, 6] = run(Coop, [<<"hello">>, <<>>, "a list"]),
    stop(Coop).

a_window_of_one_is_enough(_) ->
    T = coop_flow:fanout(same(r, #{dataflow => round_robin}), [plus1(N) || N <- [a, b, c]], plus1(z)),
    Coop = start(T, #{window => 1}),
    Expected = lists:seq(3, 502),
    Expected = lists:sort(run(Coop, lists:seq(1, 500))),
    stop(Coop).

a_call_returns_the_first_result_and_spares_the_receiver(_) ->
    Coop = start([native(a, typed, up_to), plus1(b)]),
    {ok, 2} = coop:call(Coop, 3, ?LIMIT),
    {ok, 2} = coop:call(Coop, 1, infinity),
    [2, 3] = run(Coop, [2]),
    stop(Coop).

a_call_that_kills_the_task_says_why(_) ->
    Coop = start([native(a, throws, act)]),
    {error, because} = coop:call(Coop, {exit, because}, ?LIMIT),
    because = ended(Coop),
    {error, noproc} = coop:call(Coop, x, ?LIMIT).

a_call_without_result_times_out(_) ->
    Coop = start([native(a, typed, even)]),
    {error, timeout} = coop:call(Coop, 1, 30),
    {ok, 2} = coop:call(Coop, 2, ?LIMIT),
    [] = mailbox(),
    stop(Coop).

totals_come_out_with_the_flush(_) ->
    Total = fun(N) -> native(N, sums, total, #{args => 0}) end,
    T = coop_flow:fanout(same(r, #{dataflow => round_robin}), [Total(a), Total(b)], Total(z)),
    Coop = start(T),
    [500500] = run(Coop, lists:seq(1, 1000)),
    stop(Coop).

high_priority_data_overtake_what_waits_at_the_head(_) ->
    Coop = start([same(a)]),
    ok = sys:suspend(Coop),
    relay(Coop, [1, 2, 3]),
    ok = coop:relay_high_priority_data(Coop, first),
    ok = coop:relay_high_priority_data(Coop, second),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, ?LIMIT),
    [first, second, 1, 2, 3] = mailbox(),
    stop(Coop).

a_task_with_a_larger_stack_has_it(_) ->
    Coop = start([native(a, stacks, large)]),
    [2000] = run(Coop, [2000]),
    stop(Coop).

a_stack_may_be_asked_for_in_the_template(_) ->
    Coop = start([native(a, stacks, small, #{stack => 2 bsl 20}), plus1(b)]),
    Expected = lists:duplicate(50, 501),
    Expected = run(Coop, lists:duplicate(50, 500)),
    stop(Coop).

four_hundred_tasks_block_at_once(_) ->
    Names = [list_to_atom("w" ++ integer_to_list(I)) || I <- lists:seq(1, 400)],
    T = coop_flow:fanout(
        same(r), [native(N, blocks, block, #{args => none}) || N <- Names], same(z)
    ),
    Coop = start(T),
    relay(Coop, [{wait, self()}]),
    Pids = [await(waiting) || _ <- Names],
    400 = length(lists:usort(Pids)),
    [P ! {go, P} || P <- Pids],
    ok = coop:flush(Coop, ?LIMIT),
    [] = Pids -- mailbox(),
    stop(Coop).

%%% Receivers

results_go_to_a_receiver_of_each_kind(_) ->
    register(the_receiver, self()),
    Last = start([same(z)]),
    LastVm = start([coop:task(z, fun(S, D) -> {S, D} end, #{})]),
    [
        begin
            Coop = start([same(a)], #{receiver => Receiver}),
            relay(Coop, [hello, there]),
            ok = coop:flush(Coop, ?LIMIT),
            [hello, there] = take(2),
            stop(Coop)
        end
     || Receiver <- [
            self(),
            the_receiver,
            {the_receiver, node()},
            Last,
            coop:'of'(Last),
            LastVm,
            coop:'of'(LastVm)
        ]
    ],
    None = start([same(a)], #{receiver => none}),
    [] = run(None, [hello]),
    stop(None),
    stop(Last),
    stop(LastVm),
    unregister(the_receiver).

results_carry_the_tag(_) ->
    Coop = start([same(a)], #{tag => {my, "tag"}}),
    [{{my, "tag"}, 1}] = run(Coop, [1]),
    %% but replies do not
    {ok, 2} = coop:call(Coop, 2, ?LIMIT),
    stop(Coop).

a_receiver_that_has_gone_stops_nobody(_) ->
    {Gone, Ref} = spawn_monitor(fun() -> ok end),
    normal = down(Ref),
    Ended = start([same(z)]),
    Handle = coop:'of'(Ended),
    [
        begin
            Coop = start([same(a)], #{receiver => Receiver, window => 5}),
            Before(),
            %% more than the window of the co-op that has gone
            [] = [M || M <- run(Coop, lists:seq(1, 2000)), element(1, M) =/= 'EXIT'],
            {ok, x} = coop:call(Coop, x, ?LIMIT),
            #{dropped := Dropped} = coop_process:ask(pid(Coop, a), info, ?LIMIT),
            true = Dropped =:= Lost orelse Dropped,
            ok = coop:stop(Coop),
            _ = mailbox()
        end
     || {Receiver, Before, Lost} <- [
            {Gone, fun() -> ok end, 0},
            {no_such_name, fun() -> ok end, 0},
            {Handle, fun() -> coop:stop(Ended) end, 2000}
        ]
    ].

%%% Starting

the_pid_is_linked_before_it_is_returned(_) ->
    Coop = start([same(a)]),
    {links, Links} = process_info(self(), links),
    [Coop] = [P || P <- Links, is_pid(P), node(P) =:= node(Coop)],
    stop(Coop).

inits_have_run_when_start_link_returns(_) ->
    Coop = start([native(N, lives, life, #{args => {self(), N}}) || N <- [a, b]]),
    Inits = [{N, P} || {init, N, P} <- mailbox()],
    #{nodes := Nodes} = coop:info(Coop),
    Nodes = lists:sort(Inits),
    ok = coop:stop(Coop),
    [{gone, a, _}, {gone, b, _}] = lists:sort([M || {gone, _, _} = M <- mailbox()]).

%% Fails, and nothing is left of it in either home.
fails(Template, Options) ->
    process_flag(trap_exit, true),
    Before = esp_test_c_node:processes(?C_NODE),
    Here = processes(),
    {links, Links} = process_info(self(), links),
    {error, Reason} = coop:start_link(Template, maps:merge(opts(), Options)),
    {links, Links} = process_info(self(), links),
    {monitors, []} = process_info(self(), monitors),
    esp_test_c_node:settled(?C_NODE, Before),
    [] = [
        P
     || P <- processes() -- Here,
        {dictionary, D} <- [process_info(P, dictionary)],
        {'$initial_call', {M, _, _}} <- D,
        lists:member(M, [coop_head, coop_node, coop_kill_switch])
    ],
    Reason.

mistakes_are_named_and_leave_nothing(_) ->
    P = fun(N) -> coop_flow:pipeline([same(first), N]) end,
    [
        {Expected, Expected} = {Expected, fails(T, #{})}
     || {Expected, T} <- [
            {{bad_node, a, {no_plugin, none_such}}, P(native(a, none_such, t))},
            {{bad_node, a, {no_task, sums, none_such}}, P(native(a, sums, none_such))},
            {{bad_node, a, {no_app, none_such}}, P(native(a, {none_such, p}, t))},
            {{type_mismatch, a, b},
                coop_flow:pipeline([native(a, typed, number), native(b, typed, text)])},
            {{type_mismatch, b, c},
                coop_flow:graph(
                    [native(a, typed, number), native(b, typed, length), native(c, typed, text)],
                    [{b, c}]
                )},
            {{cycle, [a, b]}, coop_flow:graph([same(a), same(b)], [{a, b}, {b, a}])},
            {{unknown_node, z}, coop_flow:graph([same(a)], [{a, z}])},
            {{duplicate_node, a}, coop_flow:graph([same(a), same(a)], [])},
            {{bad_node, a, {bad_option, stack}}, P(same(a, #{stack => 0}))},
            {{bad_node, a, {bad_dataflow, no_such}}, P(same(a, #{dataflow => no_such}))}
        ]
    ],
    {bad_node, a, {bad_stack, 1}} = fails(P(same(a, #{stack => 1})), #{}),
    {bad_node, a, _} = fails(P(native(a, "/no/such/plugin.so", t)), #{}).

an_init_that_fails_leaves_nothing(_) ->
    {init, b, {{cpp_exception, <<"std::runtime_error">>, <<"no init">>}, _}} =
        fails(coop_flow:pipeline([same(a), native(b, sums, no_init, #{args => 1}), same(c)]), #{}),
    {init, b, {function_clause, [{typed, needs_number, [not_a_number], _}]}} =
        fails(
            coop_flow:pipeline([same(a), native(b, typed, needs_number, #{args => not_a_number})]),
            #{name => never_started}
        ),
    false = coop:is_live(never_started).

starter(Template) ->
    spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        exit({result, coop:start_link(Template, #{node => ?C_NODE})})
    end).

an_init_that_is_killed_leaves_nothing(_) ->
    Before = esp_test_c_node:processes(?C_NODE),
    [
        begin
            {_, Ref} = starter(coop_flow:pipeline([same(a), native(b, slow_init, Task, #{args => self()})])),
            exit(await(initialising), Reason),
            {result, {error, {init, b, Seen}}} = down(Ref),
            esp_test_c_node:settled(?C_NODE, Before)
        end
     || {Task, Reason, Seen} <- [{slow, kill, killed}, {slow, boom, boom}, {stuck, kill, killed}]
    ].

a_parent_that_ends_meanwhile_leaves_nothing(_) ->
    Before = esp_test_c_node:processes(?C_NODE),
    [
        begin
            {Parent, Ref} = starter(coop_flow:pipeline([native(a, slow_init, slow, #{args => self()}), Next])),
            await(initialising),
            exit(Parent, kill),
            killed = down(Ref),
            esp_test_c_node:settled(?C_NODE, Before)
        end
     || Next <- [same(b), coop:task(b, fun(S, D) -> {S, D} end, #{})]
    ].

a_c_node_that_is_not_there_is_named(_) ->
    T = coop_flow:pipeline([same(a)]),
    {error, {not_up, _}} = coop:start_link(T, #{node => 'nobody@127.0.0.1', start_timeout => 20}),
    {error, {not_up, _}} = coop:start_link(T, #{node => nobody, start_timeout => 20}).

a_name_is_as_good_as_the_pid(_) ->
    Coop = start([plus1(a)], #{name => native_coop}),
    Coop = coop:head(native_coop),
    Coop = erpc:call(node(Coop), erlang, whereis, [native_coop]),
    [2] = run(native_coop, [1]),
    {ok, 3} = coop:call(native_coop, 2, ?LIMIT),
    ok = coop:relay_batch(native_coop, [3, 4]),
    ok = coop:relay_high_priority_data(native_coop, 5),
    ok = coop:flush(native_coop, ?LIMIT),
    [4, 5, 6] = lists:sort(mailbox()),
    {native_coop, node(Coop)} ! 6,
    [7] = take(1),
    ok = coop:stop(native_coop),
    false = coop:is_live(native_coop),
    {error, noproc} = coop:relay_data(native_coop, 1).

a_name_that_is_taken_is_an_error(_) ->
    Coop = start([same(a)], #{name => native_coop}),
    {already_started, Coop} = fails(coop_flow:pipeline([same(a)]), #{name => native_coop}),
    {already_started, _} = fails(coop_flow:pipeline([same(a)]), #{name => erlangsp}),
    ok = coop:stop(Coop),
    Next = start([same(a)], #{name => native_coop}),
    ok = coop:stop(Next).

is_live_and_info_tell_the_truth(_) ->
    Coop = start([same(a), same(b)]),
    true = coop:is_live(Coop),
    [1, 2] = run(Coop, [1, 2]),
    #{
        role := head,
        nodes := [{a, A}, {b, B}],
        switches := [Switch],
        edges := [{a, b}],
        home := Home,
        queue := 0,
        in := 2,
        out := 2,
        dropped := 0,
        status := running,
        relays := Relays
    } = coop:info(Coop),
    Home = esp_node:node(?C_NODE),
    true = Relays >= 1,
    [#{role := node, in := 2, out := 2, name := N, queue := 0} = coop_process:ask(P, info, ?LIMIT)
     || {N, P} <- [{a, A}, {b, B}]],
    #{role := kill_switch} = coop_process:ask(Switch, info, ?LIMIT),
    ok = coop:stop(Coop),
    false = coop:is_live(Coop).

a_clone_is_another_coop_of_the_same_kind(_) ->
    Coop = start([plus1(a)]),
    {ok, Clone} = coop:clone(Coop),
    true = Clone =/= Coop,
    [2] = run(Clone, [1]),
    ok = coop:stop(Coop),
    true = coop:is_live(Clone),
    ok = coop:stop(Clone).

a_start_does_not_wait_for_another(_) ->
    {_, Ref} = starter(coop_flow:pipeline([native(a, slow_init, slow, #{args => self()})])),
    Slow = await(initialising),
    Coop = start([same(a)]),
    [1] = run(Coop, [1]),
    Slow ! {go, ok},
    {result, {ok, _}} = down(Ref),
    ok = coop:stop(Coop).

%%% Ending

%% How a co-op ends of that datum: all its processes alike.
ends_by(Nodes, Datum) ->
    Coop = start(Nodes),
    Refs = monitors(pids(Coop)),
    relay(Coop, [Datum]),
    Reason = ended(Coop),
    [Reason] = lists:usort([down(R) || R <- Refs]),
    Reason.

throwing() -> [same(a), native(b, throws, act), same(c)].

an_exception_is_the_reason(_) ->
    {{cpp_exception, <<"std::runtime_error">>, <<"oh no">>}, S1} =
        ends_by(throwing(), {runtime_error, <<"oh no">>}),
    {{cpp_exception, Own, <<>>}, S2} = ends_by(throwing(), own),
    {match, _} = re:run(Own, "own_error"),
    {{cpp_exception, <<"int">>, <<>>}, S3} = ends_by(throwing(), int),
    [true = is_list(S) || S <- [S1, S2, S3]].

esp_exit_is_the_reason(_) ->
    [
        {Reason, Reason} = {Reason, ends_by(throwing(), {exit, Reason})}
     || Reason <- [boom, normal, shutdown, {shutdown, 1}, {a, [<<"term">>]}]
    ].

ill_typed_data_end_the_node_with_function_clause(_) ->
    [
        {function_clause, [{typed, number, [Datum], _} | _]} =
            ends_by([same(a), native(b, typed, number)], Datum)
     || Datum <- [<<"text">>, 1.5, foo, {1}, [], 1 bsl 64]
    ].

an_exception_in_flush_is_the_reason(_) ->
    Coop = start([same(a), native(b, throws, in_flush), same(c)]),
    {error, {{cpp_exception, <<"std::runtime_error">>, <<"flush">>}, _}} = coop:flush(Coop, ?LIMIT),
    {{cpp_exception, _, _}, _} = ended(Coop).

exit_2_on_any_node_takes_the_coop_with_that_reason(_) ->
    each_process(fun(Pid) -> exit(Pid, boom) end, boom),
    each_process(fun(Pid) -> exit(Pid, {a, "term"}) end, {a, "term"}),
    each_process(fun(Pid) -> exit(Pid, shutdown) end, shutdown).

kill_on_any_process_takes_the_coop(_) ->
    each_process(fun(Pid) -> exit(Pid, kill) end, killed).

each_process(End, Reason) ->
    T = coop_flow:graph([same(N) || N <- [a, b, c, d]], [{a, b}, {a, c}, {b, d}, {c, d}]),
    [
        begin
            Coop = start(T),
            All = pids(Coop),
            6 = length(All),
            Refs = monitors(All),
            End(lists:nth(I, All)),
            {I, [Reason]} = {I, lists:usort([down(R) || R <- Refs])},
            Reason = ended(Coop)
        end
     || I <- lists:seq(1, 6)
    ].

exit_with_normal_is_ignored(_) ->
    Coop = start([same(a)]),
    [exit(P, normal) || P <- pids(Coop)],
    [exit(P, normal) || P <- pids(Coop)],
    [1] = run(Coop, [1]),
    stop(Coop).

stop_leaves_nothing(_) ->
    Warm = start([same(a)]),
    _ = run(Warm, [1]),
    ok = coop:stop(Warm),
    _ = mailbox(),
    Before = esp_test_c_node:processes(?C_NODE),
    [
        begin
            Coop = start([same(a), same(b)]),
            Refs = monitors(pids(Coop)),
            _ = run(Coop, [1]),
            ok = coop:stop(Coop, Reason, ?LIMIT),
            [Reason] = lists:usort([down(R) || R <- Refs]),
            Reason = ended(Coop)
        end
     || Reason <- [normal, shutdown, {shutdown, x}, other]
    ],
    esp_test_c_node:settled(?C_NODE, Before).

asleep() ->
    Coop = start([same(a), native(b, blocks, block, #{args => self()})]),
    relay(Coop, [{sleep, self()}]),
    {Coop, await(sleeping)}.

a_blocked_task_ends_at_once(_) ->
    [
        begin
            {Coop, Pid} = asleep(),
            Pid = pid(Coop, b),
            exit(Which(Coop, Pid), boom),
            boom = ended(Coop),
            %% its state's destructor ran before anybody heard of the end
            [{destroyed, Pid}] = mailbox()
        end
     || Which <- [fun(C, _) -> C end, fun(_, P) -> P end]
    ].

a_blocked_task_is_killed_at_once(_) ->
    [
        begin
            {Coop, Pid} = asleep(),
            exit(Which(Coop, Pid), kill),
            killed = ended(Coop)
        end
     || Which <- [fun(C, _) -> C end, fun(_, P) -> P end]
    ].

a_killed_task_has_its_state_destroyed(_) ->
    {Coop, Pid} = asleep(),
    exit(Pid, kill),
    killed = ended(Coop),
    Pid = await(destroyed).

spinning(More) ->
    Coop = start([same(a), native(b, spins, spin)]),
    relay(Coop, [erlang:append_element({spin, self()}, More)]),
    {Coop, await(spinning)}.

since(T0) -> erlang:monotonic_time(millisecond) - T0.

%% Links and monitors hear of a kill at once, and of another reason after the
%% task's second; what the task still does is nobody's.
a_runaway_task_is_given_up_after_a_second(_) ->
    {Coop, Pid} = spinning(3000),
    T0 = erlang:monotonic_time(millisecond),
    Ref = monitor(process, Pid),
    exit(Pid, boom),
    boom = down(Ref),
    true = since(T0) < 2500,
    boom = ended(Coop),
    {Coop2, Pid2} = spinning(1500),
    T1 = erlang:monotonic_time(millisecond),
    Ref2 = monitor(process, Pid2),
    exit(Pid2, kill),
    killed = down(Ref2),
    killed = ended(Coop2),
    true = since(T1) < 900,
    [] = mailbox().

neighbours_of_a_runaway_task_go_on(_) ->
    Spinning = [spinning(2500) || _ <- [1, 2, 3]],
    Coop = start([plus1(a), plus1(b)]),
    Expected = lists:seq(3, 1002),
    Expected = run(Coop, lists:seq(1, 1000)),
    _ = sys:get_state(pid(Coop, b)),
    stop(Coop),
    [
        begin
            exit(C, kill),
            killed = ended(C)
        end
     || {C, _} <- Spinning
    ].

two_hundred_nodes_die_together(_) ->
    Names = [list_to_atom("w" ++ integer_to_list(I)) || I <- lists:seq(1, 200)],
    Coop = start(coop_flow:fanout(same(r), [same(N) || N <- Names], same(z))),
    200 = length(run(Coop, [1])),
    Refs = monitors(pids(Coop)),
    exit(pid(Coop, w100), boom),
    [boom] = lists:usort([down(R) || R <- Refs]),
    boom = ended(Coop).

%%% Faults: a C-node of its own for each, whose last words are kept

faulty(Config, Name, Fun) ->
    process_flag(trap_exit, true),
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    Script = File ++ ".sh",
    ok = file:write_file(Script, [
        "#!/bin/sh\nexec ", os:getenv("ESP_NODE_BINARY"), " \"$@\" 2>", File, "\n"
    ]),
    ok = file:change_mode(Script, 8#755),
    {ok, Owner} = esp_node:start_link(Name, #{
        binary => Script, plugins => [esp_test_c_node:plugin(P) || P <- [faults, spins, sums]]
    }),
    Fun(#{node => Name, receiver => self()}),
    Why =
        receive
            {'EXIT', Owner, Reason} -> Reason
        after ?LIMIT -> ct:fail(c_node_lives_on)
        end,
    eventually(c_node_gone, fun() -> esp_test_lib:os_pids(Name) =:= [] end),
    {ok, Said} = file:read_file(File),
    {Why, Said}.

fault(Config, Name, Datum, Signal) ->
    {Why, Said} = faulty(Config, Name, fun(Opts) ->
        {ok, Coop} = coop:start_link(
            coop_flow:pipeline([same(a), native(b, faults, act)]), Opts
        ),
        [fine] = run(Coop, [fine]),
        Ref = monitor(process, Coop),
        relay(Coop, [Datum]),
        noconnection = down(Ref),
        noconnection = ended(Coop)
    end),
    true = is_tuple(Why) orelse Why =:= noconnection,
    {match, _} = re:run(Said, ["esp_node fault: ", Signal, " in faults:act, process <"]),
    ok.

a_stack_overflow_names_plugin_and_task(Config) ->
    fault(Config, t_overflow, overflow, "SIG(SEGV|BUS)").

a_segfault_names_plugin_and_task(Config) ->
    fault(Config, t_segfault, segfault, "SIGSEGV").

an_abort_names_plugin_and_task(Config) ->
    fault(Config, t_abort, abort, "SIGABRT").

%% Four threads run what was killed and will not end.
too_many_abandoned_threads_end_the_c_node(Config) ->
    {_, Said} = faulty(Config, t_abandoned, fun(Opts) ->
        [
            begin
                {ok, Coop} = coop:start_link(coop_flow:pipeline([native(a, spins, spin)]), Opts),
                relay(Coop, [{spin, self()}]),
                Pid = await(spinning),
                exit(Pid, kill),
                _ = ended(Coop)
            end
         || _ <- [1, 2, 3, 4]
        ]
    end),
    {match, _} = re:run(Said, "abandoned: spins:spin, process <").
