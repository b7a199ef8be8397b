%% Changes of code (doc/upgrade.md): co-ops of all shapes go over to another image
%% of a plugin while numbered data flow as fast as they can. None may be missing,
%% come twice or in another's place, and each is the work of one version alone.
-module(upgrade_SUITE).

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, down/1]).
-import(esp_test_c_node, [vsn_of/1]).
-import(esp_test_traffic, [some/1, finish/1, abandon/1]).

-define(C_NODE, t_upgrade).
-define(LIMIT, 30_000).

suite() ->
    [{timetrap, {seconds, 120}}].

shapes() ->
    [native, mixed, vm_head, restart, restart_mixed, restart_vm_head, stand_in, hashed, instances,
     consume, consume_on_vm, started].

all() ->
    [{group, Shape} || Shape <- shapes()] ++ [{group, one_by_one}].

groups() ->
    [{Shape, [], of_any() ++ of_shape(Shape)} || Shape <- shapes()] ++
        [{one_by_one, [], one_by_one()}].

of_any() ->
    [
        it_changes_under_traffic,
        it_goes_back_and_forth_under_traffic,
        one_that_refuses_leaves_all_as_they_were,
        sys_changes_it_by_its_head
    ].

of_shape(Shape) when Shape =:= restart; Shape =:= restart_mixed; Shape =:= restart_vm_head ->
    [
        a_node_killed_in_mid_change_has_the_old_code_again,
        a_body_made_again_is_of_the_new_code
    ];
of_shape(Shape) when Shape =:= mixed; Shape =:= vm_head ->
    [
        a_refusal_on_the_vm_leaves_the_c_node_as_it_was,
        a_node_killed_in_mid_change_is_the_end_of_it,
        a_c_node_lost_in_mid_change_is_the_end_of_it
    ];
of_shape(native) ->
    [
        a_node_killed_in_mid_change_is_the_end_of_it,
        a_c_node_lost_in_mid_change_is_the_end_of_it
    ];
of_shape(_) ->
    [].

one_by_one() ->
    [
        sys_changes_a_single_node,
        sys_takes_a_single_node_back,
        what_a_node_cannot_take_is_refused,
        a_task_that_is_gone_is_refused,
        types_that_do_not_meet_are_refused,
        a_change_is_no_flush,
        a_co_op_without_a_c_node_changes_too,
        each_node_says_what_it_runs,
        one_that_takes_too_long_is_given_up,
        what_waits_for_demand_is_waited_for,
        whoever_changes_it_may_end,
        two_changes_at_once_are_one_and_a_refusal,
        all_co_ops_of_a_c_node_change,
        images_share_nothing,
        an_old_image_is_unmapped_with_its_last_user,
        what_a_task_has_started_is_a_user_too,
        a_pinned_image_says_so,
        purge_kills_who_runs_old_code,
        an_unloaded_plugin_starts_nothing,
        the_next_c_node_has_what_was_loaded_last,
        bad_requests_are_errors
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(Group, Config) -> [{shape, Group} | Config].
end_per_group(_, _) -> ok.

init_per_testcase(_, Config) ->
    process_flag(trap_exit, true),
    {ok, _} = esp_node:await(?C_NODE, ?LIMIT),
    {ok, <<"1.0.0">>} = load(1),
    Config.

%% Whatever has happened: nothing of an old image is left.
end_per_testcase(_, _Config) ->
    {ok, _} = esp_node:await(?C_NODE, ?LIMIT),
    eventually(no_old_images, fun() ->
        esp_plugin:soft_purge(?C_NODE, grows) =:= true orelse esp_plugin:info(?C_NODE, grows)
    end),
    [] = [I || I = #{pinned := true} <- esp_plugin:info(?C_NODE, grows)],
    ok.

load(Version) -> esp_plugin:load(?C_NODE, grows, file(grows, Version)).

file(Name, 1) -> esp_test_c_node:plugin(Name);
file(Name, 2) -> esp_test_c_node:plugin("second", Name);
file(Name, 3) -> esp_test_c_node:plugin("third", Name).

%%% Co-ops

native(Name) -> native(Name, #{}).
native(Name, Options) -> coop:native(Name, grows, stamp, Options).

vm(Name) -> coop:task(Name, {grows, stamp}, #{init => {grows, init, []}}).

template(mixed) -> coop_flow:pipeline([native(a), vm(m), native(b)]);
template(vm_head) -> coop_flow:pipeline([vm(m), native(a), native(b)]);
template(restart_mixed) -> template(mixed);
template(restart_vm_head) -> template(vm_head);
template(hashed) ->
    coop_flow:graph(
        [native(a, #{dataflow => {hash, key}}), native(v), native(w), native(j)],
        [{a, v}, {a, w}, {v, j}, {w, j}]
    );
template(consume) ->
    coop_flow:pipeline([native(a, #{dataflow => {consume, {8, 4, 4}}}), native(w), native(j)]);
template(consume_on_vm) ->
    %% its workers are made of whatever code there is by then
    Worker = coop:task(w, fun(State, Mark) -> {State, Mark} end, #{}),
    coop_flow:pipeline([native(a, #{dataflow => {consume, {8, 4, 4}}}), Worker, native(j)]);
template(started) ->
    coop_flow:pipeline([coop:native(m, grows, maker, #{}), native(j)]);
template(_) ->
    coop_flow:pipeline([native(a), native(b), native(c)]).

options(Shape) when Shape =:= restart; Shape =:= restart_mixed; Shape =:= restart_vm_head ->
    #{restart => {body, #{intensity => 10, period => 1}}};
options(stand_in) -> #{stand_in => true};
options(instances) -> #{instances => 2, dataflow => {hash, {key, n}}};
options(_) -> #{}.

%% How numbers come out: all in order, those of each parity, or at least all.
order(Shape) when Shape =:= hashed; Shape =:= started -> parity;
order(Shape) when Shape =:= instances; Shape =:= consume; Shape =:= consume_on_vm -> any;
order(_) -> all.

start(Template, Options) ->
    {ok, Coop} = coop:start_link(Template, Options#{node => ?C_NODE}),
    Coop.

shape(Config) -> proplists:get_value(shape, Config).

stop(Coop) ->
    ok = coop:stop(Coop, normal, ?LIMIT).

nodes_of(Coop) ->
    #{nodes := Nodes} = coop:info(Coop),
    Nodes.

node_of(Coop, Name) -> proplists:get_value(Name, nodes_of(Coop)).

is_native(Pid) -> node(Pid) =/= node().

versions(Coop) ->
    lists:usort([vsn_of(Pid) || {_, Pid} <- nodes_of(Coop), is_native(Pid)]).

%%% Traffic

traffic(Config) ->
    Shape = shape(Config),
    traffic(template(Shape), options(Shape), order(Shape)).

traffic(Template, Options, Order) ->
    Collector = esp_test_traffic:collector(Order),
    T = esp_test_traffic:start(start(Template, Options#{receiver => Collector}), Collector),
    some(T),
    T.

%% In turn: with ways of different length some of the last are late, unless order
%% is kept.
in_turn(Config, Expected, Bys) ->
    case order(shape(Config)) of
        all -> Expected = Bys;
        _ -> true = lists:usort(Expected) =:= lists:usort(Bys)
    end.

%%% In any shape

it_changes_under_traffic(Config) ->
    T = #{coop := Coop} = traffic(Config),
    {ok, <<"2.0.0">>} = load(2),
    [<<"1.0.0">>] = versions(Coop),
    ok = esp_plugin:upgrade(Coop, grows, {unit, <<"marks">>}),
    [<<"2.0.0">>] = versions(Coop),
    some(T),
    {Sent, Bys} = finish(T),
    in_turn(Config, [<<"1">>, <<"2">>], Bys),
    check_states(shape(Config), Coop, Sent),
    eventually(old_image_gone, fun() -> esp_plugin:soft_purge(?C_NODE, grows) end),
    stop(Coop).

%% The counts of before are there, and the change has been told what it was.
check_states(Shape, Coop, Sent) when Shape =/= instances, Shape =/= hashed ->
    lists:foreach(
        fun
            ({m, Pid}) when Shape =:= started, is_pid(Pid) ->
                #{nodes := [_, _] = Started} = sys:get_state(Pid),
                States = [sys:get_state(S) || S <- Started],
                Sent = lists:sum([Total || #{total := Total} <- States]),
                [#{unit := <<"marks">>, since := <<"1.0.0">>}, _] = States;
            ({_, Pid}) ->
                case is_native(Pid) of
                    true ->
                        #{total := Sent, unit := <<"marks">>, since := <<"1.0.0">>} =
                            sys:get_state(Pid);
                    false ->
                        {<<"2">>, Sent} = sys:get_state(Pid)
                end
        end,
        nodes_of(Coop)
    );
check_states(_, Coop, _Sent) ->
    [#{since := <<"1.0.0">>} = sys:get_state(Pid) || {_, Pid} <- nodes_of(Coop)].

it_goes_back_and_forth_under_traffic(Config) ->
    T = #{coop := Coop} = traffic(Config),
    lists:foreach(
        fun(_) ->
            {ok, <<"2.0.0">>} = load(2),
            ok = esp_plugin:upgrade(Coop, grows, []),
            [<<"2.0.0">>] = versions(Coop),
            some(T),
            {ok, <<"1.0.0">>} = load(1),
            ok = esp_plugin:downgrade(Coop, grows, []),
            [<<"1.0.0">>] = versions(Coop),
            some(T)
        end,
        lists:seq(1, 5)
    ),
    {Sent, Bys} = finish(T),
    in_turn(Config, lists:append(lists:duplicate(5, [<<"1">>, <<"2">>])) ++ [<<"1">>], Bys),
    true = Sent > 5000,
    stop(Coop).

one_that_refuses_leaves_all_as_they_were(Config) ->
    T = #{coop := Coop} = traffic(Config),
    {ok, <<"2.0.0">>} = load(2),
    {error, {Node, {{cpp_exception, <<"std::runtime_error">>, <<"told to refuse">>}, _}}} =
        esp_plugin:upgrade(Coop, grows, refuse),
    true = is_atom(Node),
    [<<"1.0.0">>] = versions(Coop),
    some(T),
    {ok, <<"3.0.0">>} = load(3),
    {error, {_, Why}} = esp_plugin:upgrade(Coop, grows, []),
    true =
        case Why of
            {{cpp_exception, <<"std::domain_error">>, _}, _} -> true;
            {no_task, grows, _} -> lists:member(shape(Config), [hashed, started])
        end,
    [<<"1.0.0">>] = versions(Coop),
    some(T),
    {_, [<<"1">>]} = finish(T),
    %% and it may change its mind
    {ok, <<"2.0.0">>} = load(2),
    ok = esp_plugin:upgrade(Coop, grows, []),
    [<<"2.0.0">>] = versions(Coop),
    stop(Coop).

%% As release_handler does.
sys_changes_it_by_its_head(Config) ->
    T = #{coop := Coop} = traffic(Config),
    {ok, <<"2.0.0">>} = load(2),
    Pid = coop_names:head(Coop),
    {ok, Modules} = gen:call(Pid, self(), get_modules, ?LIMIT),
    true = lists:member(grows, Modules),
    {error, {unknown_system_msg, _}} = sys:change_code(Pid, grows, undefined, []),
    ok = sys:suspend(Pid),
    {error, {_, {{cpp_exception, _, _}, _}}} = sys:change_code(Pid, grows, undefined, refuse),
    ok = sys:change_code(Pid, some_other_module, undefined, []),
    [<<"1.0.0">>] = versions(Coop),
    ok = sys:change_code(Pid, grows, undefined, []),
    [<<"2.0.0">>] = versions(Coop),
    ok = sys:resume(Pid),
    some(T),
    {ok, <<"1.0.0">>} = load(1),
    ok = sys:suspend(Pid),
    ok = sys:change_code(Pid, grows, {down, "2.0.0"}, []),
    ok = sys:resume(Pid),
    [<<"1.0.0">>] = versions(Coop),
    some(T),
    {_, Bys} = finish(T),
    in_turn(Config, [<<"1">>, <<"2">>, <<"1">>], Bys),
    stop(Coop).

%%% Nodes in both homes

a_refusal_on_the_vm_leaves_the_c_node_as_it_was(Config) ->
    T = #{coop := Coop} = traffic(Config),
    {ok, <<"2.0.0">>} = load(2),
    {error, {m, {error, told_to_refuse}}} = esp_plugin:upgrade(Coop, grows, refuse_vm),
    [<<"1.0.0">>] = versions(Coop),
    some(T),
    {_, [<<"1">>]} = finish(T),
    stop(Coop).

%%% In mid-change

%% Whoever changes it in a process of its own, the first node that is at it, and
%% what keeps the nodes waiting.
begin_change(Coop) ->
    Self = self(),
    {ok, <<"2.0.0">>} = load(2),
    Gate = gate(),
    Changer = spawn_link(fun() ->
        Self ! {self(), esp_plugin:upgrade(Coop, grows, {wait, Gate})}
    end),
    {Changer, changing(Gate), Gate}.

%% Until it is opened.
gate() ->
    Self = self(),
    spawn_link(fun() -> closed(Self, []) end).

closed(Test, Waiting) ->
    receive
        {changing, Node} ->
            Test ! {changing, self(), Node},
            closed(Test, [Node | Waiting]);
        open ->
            [Node ! go || Node <- Waiting],
            open()
    end.

open() ->
    receive
        {changing, Node} ->
            Node ! go,
            open()
    end.

changing(Gate) ->
    receive
        {changing, Gate, Node} -> Node
    after ?LIMIT -> ct:fail(no_change)
    end.

changed(Changer) ->
    receive
        {Changer, Result} -> Result
    after ?LIMIT -> ct:fail(change_does_not_end)
    end.

a_node_killed_in_mid_change_is_the_end_of_it(Config) ->
    T = #{coop := Coop} = traffic(Config),
    Ref = monitor(process, coop:head(Coop)),
    {Changer, Node, _Gate} = begin_change(Coop),
    exit(Node, kill),
    killed = down(Ref),
    {error, killed} = changed(Changer),
    abandon(T).

a_c_node_lost_in_mid_change_is_the_end_of_it(Config) ->
    T = #{coop := Coop} = traffic(Config),
    Ref = monitor(process, coop:head(Coop)),
    {Changer, _Node, _Gate} = begin_change(Coop),
    esp_test_c_node:kill(?C_NODE),
    noconnection = down(Ref),
    {error, Reason} = changed(Changer),
    true = lists:member(Reason, [noconnection, {nodedown, esp_node:node(?C_NODE)}, noproc]),
    abandon(T).

a_node_killed_in_mid_change_has_the_old_code_again(Config) ->
    T = #{coop := Coop} = traffic(Config),
    {Changer, Node, _Gate} = begin_change(Coop),
    exit(Node, kill),
    {error, {restarted, killed}} = changed(Changer),
    eventually(restarted, fun() -> maps:get(restarts, coop:info(Coop)) =:= 1 end),
    [<<"1.0.0">>] = versions(Coop),
    some(T),
    {_, [<<"1">>]} = finish(T),
    {Changer2, _, Gate} = begin_change(Coop),
    Gate ! open,
    ok = changed(Changer2),
    [<<"2.0.0">>] = versions(Coop),
    stop(Coop).

a_body_made_again_is_of_the_new_code(Config) ->
    T = #{coop := Coop} = traffic(Config),
    {ok, <<"2.0.0">>} = load(2),
    ok = esp_plugin:upgrade(Coop, grows, []),
    some(T),
    exit(node_of(Coop, a), kill),
    eventually(restarted, fun() -> maps:get(restarts, coop:info(Coop)) =:= 1 end),
    [<<"2.0.0">>] = versions(Coop),
    eventually(old_image_gone, fun() -> esp_plugin:soft_purge(?C_NODE, grows) end),
    %% the datum in hand may be a dead letter
    abandon(T),
    stop(Coop).

%%% One by one

pipeline(Tasks) ->
    start(
        coop_flow:pipeline([
            coop:native(list_to_atom([$a + I]), grows, Task, #{})
         || {I, Task} <- lists:zip(lists:seq(0, length(Tasks) - 1), Tasks)
        ]),
        #{receiver => self()}
    ).

%% Its neighbours run what they ran: values meet as terms.
sys_changes_a_single_node(_) ->
    Coop = pipeline([stamp, stamp, stamp]),
    [ok = coop:relay_data(Coop, #{n => N, by => []}) || N <- lists:seq(1, 100)],
    {ok, <<"2.0.0">>} = load(2),
    B = node_of(Coop, b),
    ok = sys:suspend(B),
    [ok = coop:relay_data(Coop, #{n => N, by => []}) || N <- lists:seq(101, 200)],
    {error, {{cpp_exception, _, <<"told to refuse">>}, _}} =
        sys:change_code(B, grows, undefined, refuse),
    <<"1.0.0">> = vsn_of(B),
    ok = sys:change_code(B, lists, undefined, []),
    ok = sys:change_code(B, grows, undefined, {unit, <<"bytes">>}),
    [<<"2.0.0">>, <<"1.0.0">>] = [vsn_of(P) || P <- [B, node_of(Coop, a)]],
    ok = sys:resume(B),
    ok = coop:flush(Coop, ?LIMIT),
    #{total := 200, unit := <<"bytes">>, since := <<"1.0.0">>} = sys:get_state(B),
    [
        receive
            #{n := N, by := [<<"1">>, _, <<"1">>]} -> ok
        after ?LIMIT -> ct:fail(N)
        end
     || N <- lists:seq(1, 200)
    ],
    %% the others follow
    ok = esp_plugin:upgrade(Coop, grows, []),
    [<<"2.0.0">>] = versions(Coop),
    #{unit := <<"bytes">>} = sys:get_state(B),
    stop(Coop).

sys_takes_a_single_node_back(_) ->
    {ok, <<"2.0.0">>} = load(2),
    Coop = pipeline([stamp]),
    ok = coop:relay_data(Coop, #{n => 1, by => []}),
    ok = coop:flush(Coop, ?LIMIT),
    A = node_of(Coop, a),
    {ok, <<"1.0.0">>} = load(1),
    ok = sys:suspend(A),
    %% which is no way to have it: it fits by the way back alone
    {error, {bad_state, #{total := 1}}} = sys:change_code(A, grows, undefined, []),
    ok = sys:change_code(A, grows, {down, undefined}, []),
    ok = sys:resume(A),
    #{count := 1} = sys:get_state(A),
    stop(Coop).

what_a_node_cannot_take_is_refused(_) ->
    lists:foreach(
        fun({Task, Reason}) ->
            {ok, <<"1.0.0">>} = load(1),
            Coop = pipeline([number, Task]),
            {ok, <<"2.0.0">>} = load(2),
            %% by itself, so that no edge is in its way
            B = node_of(Coop, b),
            ok = sys:suspend(B),
            {error, Reason} = sys:change_code(B, grows, undefined, []),
            ok = sys:resume(B),
            ok = coop:relay_data(Coop, 5),
            receive
                5 -> ok
            after ?LIMIT -> ct:fail(Task)
            end,
            stop(Coop)
        end,
        [
            {measure, {bad_state, #{level => 0}}},
            {opaque, {no_state_codec, <<"grows::opaque">>}},
            {gone, {no_task, grows, gone}}
        ]
    ).

a_task_that_is_gone_is_refused(_) ->
    Coop = pipeline([measure, gone]),
    {ok, <<"2.0.0">>} = load(2),
    {error, {b, {no_task, grows, gone}}} = esp_plugin:upgrade(Coop, grows, []),
    {ok, <<"3.0.0">>} = load(3),
    {error, {a, {no_task, grows, measure}}} = esp_plugin:upgrade(Coop, grows, []),
    ok = coop:relay_data(Coop, 5),
    receive
        5 -> ok
    after ?LIMIT -> ct:fail(no_result)
    end,
    stop(Coop).

types_that_do_not_meet_are_refused(_) ->
    Coop = pipeline([number, measure]),
    {ok, <<"2.0.0">>} = load(2),
    {error, {b, {type_mismatch, a, b}}} = esp_plugin:upgrade(Coop, grows, []),
    stop(Coop).

a_change_is_no_flush(_) ->
    Coop = pipeline([flushes, flushes]),
    ok = coop:relay_data(Coop, #{n => 1, by => []}),
    {ok, <<"2.0.0">>} = load(2),
    ok = esp_plugin:upgrade(Coop, grows, []),
    #{first := undefined, last := 1} = sys:get_state(node_of(Coop, a)),
    ok = coop:relay_data(Coop, #{n => 2, by => []}),
    {ok, #{n := 3}} = coop:call(Coop, #{n => 3, by => []}, ?LIMIT),
    [#{n := 1}, #{n := 2}] = esp_test_lib:take(2),
    [] = esp_test_lib:mailbox(),
    stop(Coop).

a_co_op_without_a_c_node_changes_too(_) ->
    T = #{coop := Coop} = traffic(coop_flow:pipeline([vm(a), vm(b)]), #{}, all),
    ok = sys:suspend(Coop),
    {error, {_, {error, told_to_refuse}}} = sys:change_code(Coop, grows, "1", refuse_vm),
    ok = sys:change_code(Coop, grows, "1", []),
    ok = sys:resume(Coop),
    some(T),
    ok = esp_plugin:downgrade(Coop, grows, []),
    some(T),
    {Sent, [<<"1">>, <<"2">>, <<"1">>]} = finish(T),
    [{<<"1">>, Sent} = sys:get_state(Pid) || {_, Pid} <- nodes_of(Coop)],
    stop(Coop).

each_node_says_what_it_runs(_) ->
    Coop = pipeline([stamp]),
    #{plugin := grows, task := stamp, vsn := <<"1.0.0">>} =
        coop_process:ask(node_of(Coop, a), info, ?LIMIT),
    stop(Coop).

one_that_takes_too_long_is_given_up(_) ->
    T = #{coop := Coop} = traffic(template(native), #{}, all),
    {ok, <<"2.0.0">>} = load(2),
    Gate = gate(),
    {error, timeout} = esp_plugin:upgrade(Coop, grows, {wait, Gate}, 1000),
    %% what those say that are at it still is not heard any more
    Gate ! open,
    [<<"1.0.0">>] = versions(Coop),
    some(T),
    ok = esp_plugin:upgrade(Coop, grows, []),
    some(T),
    {_, [<<"1">>, <<"2">>]} = finish(T),
    stop(Coop).

%% Until then nothing changes; the caller's patience is his own.
what_waits_for_demand_is_waited_for(_) ->
    Coop = start(template(native), #{receiver => {demand, self()}}),
    [ok = coop:relay_data(Coop, #{n => N, by => []}) || N <- lists:seq(1, 10)],
    {ok, <<"2.0.0">>} = load(2),
    {error, timeout} = esp_plugin:upgrade(Coop, grows, [], 500),
    ok = coop:relay_data(Coop, #{n => 11, by => []}),
    ok = coop:ask(Coop, 10),
    [#{n := 1} | _] = esp_test_lib:take(10),
    ok = coop:ask(Coop, 1),
    [#{n := 11, by := [<<"1">>, _, _]}] = esp_test_lib:take(1),
    [<<"1.0.0">>] = versions(Coop),
    ok = esp_plugin:upgrade(Coop, grows, []),
    ok = coop:ask(Coop, 1),
    ok = coop:relay_data(Coop, #{n => 12, by => []}),
    [#{n := 12, by := [<<"2">>, _, _]}] = esp_test_lib:take(1),
    stop(Coop).

%% ... and so may the process that does it in his stead.
whoever_changes_it_may_end(_) ->
    T = #{coop := Coop} = traffic(template(mixed), #{}, all),
    lists:foreach(
        fun(Who) ->
            {Changer, _Node, Gate} = begin_change(Coop),
            {monitors, [{process, Coordinator}]} = process_info(Changer, monitors),
            unlink(Changer),
            Ref = monitor(process, Coordinator),
            exit(proplists:get_value(Who, [{caller, Changer}, {coordinator, Coordinator}]), kill),
            Gate ! open,
            _ = down(Ref),
            some(T),
            [<<"1.0.0">>] = versions(Coop)
        end,
        [caller, coordinator]
    ),
    {_, [<<"1">>]} = finish(T),
    ok = esp_plugin:upgrade(Coop, grows, []),
    stop(Coop).

two_changes_at_once_are_one_and_a_refusal(_) ->
    T = #{coop := Coop} = traffic(template(mixed), #{}, all),
    {Changer, _Node, Gate} = begin_change(Coop),
    {error, busy} = esp_plugin:upgrade(Coop, grows, []),
    Gate ! open,
    ok = changed(Changer),
    some(T),
    {_, [<<"1">>, <<"2">>]} = finish(T),
    stop(Coop).

all_co_ops_of_a_c_node_change(_) ->
    Shapes = [native, vm_head, restart, hashed],
    Ts = [traffic(template(Shape), options(Shape), order(Shape)) || Shape <- Shapes],
    {ok, <<"2.0.0">>} = load(2),
    {error, Refused} = esp_plugin:upgrade(?C_NODE, grows, refuse),
    true = length(Refused) =:= length(Ts),
    ok = esp_plugin:upgrade(?C_NODE, grows, []),
    [some(T) || T <- Ts],
    [[<<"2.0.0">>] = versions(Coop) || #{coop := Coop} <- Ts],
    [finish(T) || T <- Ts],
    eventually(old_image_gone, fun() -> esp_plugin:soft_purge(?C_NODE, grows) end),
    [stop(Coop) || #{coop := Coop} <- Ts].

%%% Images

statics(Coop) ->
    {ok, Counts} = coop:call(Coop, count, ?LIMIT),
    Counts.

images_share_nothing(_) ->
    Old = pipeline([statics]),
    {<<"1">>, Counted, 1} = statics(Old),
    {ok, <<"2.0.0">>} = load(2),
    New = pipeline([statics]),
    {<<"2">>, 1, 1} = statics(New),
    {<<"2">>, 2, 2} = statics(New),
    {<<"1">>, Counted2, 2} = statics(Old),
    Counted2 = Counted + 1,
    ok = esp_plugin:upgrade(Old, grows, []),
    {<<"2">>, 3, 3} = statics(Old),
    stop(Old),
    stop(New).

%% How many objects of that name the C-node's process has mapped.
mapped(Name) ->
    [OsPid] = esp_test_lib:os_pids(?C_NODE),
    {ok, Maps} = file:read_file("/proc/" ++ OsPid ++ "/maps"),
    Lines = binary:split(Maps, <<"\n">>, [global]),
    length([
        Line
     || Line <- Lines,
        binary:match(Line, iolist_to_binary(["memfd:", Name, ".so"])) =/= nomatch,
        binary:match(Line, <<" 00000000 ">>) =/= nomatch
    ]).

an_old_image_is_unmapped_with_its_last_user(_) ->
    eventually(one_image, fun() -> mapped("grows") =:= 1 orelse mapped("grows") end),
    [A, B] = [pipeline([stamp, stamp]) || _ <- [1, 2]],
    {ok, <<"2.0.0">>} = load(2),
    2 = mapped("grows"),
    [#{vsn := <<"2.0.0">>, current := true, processes := 0, md5 := New}] =
        [I || I = #{current := true} <- esp_plugin:info(?C_NODE, grows)],
    [#{vsn := <<"1.0.0">>, processes := 4, pinned := false, md5 := Old}] =
        [I || I = #{current := false} <- esp_plugin:info(?C_NODE, grows)],
    16 = byte_size(New),
    true = New =/= Old,
    false = esp_plugin:soft_purge(?C_NODE, grows),
    ok = esp_plugin:upgrade(A, grows, []),
    false = esp_plugin:soft_purge(?C_NODE, grows),
    stop(B),
    eventually(one_image, fun() -> mapped("grows") =:= 1 orelse mapped("grows") end),
    true = esp_plugin:soft_purge(?C_NODE, grows),
    [#{vsn := <<"2.0.0">>, processes := 2}] = esp_plugin:info(?C_NODE, grows),
    stop(A).

what_a_task_has_started_is_a_user_too(_) ->
    eventually(one_image, fun() -> mapped("grows") =:= 1 orelse mapped("grows") end),
    {ok, Coop} = coop:start_link(
        coop_flow:pipeline([coop:native(a, grows, starts, #{})]), #{node => ?C_NODE}
    ),
    ok = coop:relay_data(Coop, self()),
    Started = receive {started, Pid} -> Pid after ?LIMIT -> ct:fail(not_started) end,
    {ok, <<"2.0.0">>} = load(2),
    ok = coop:stop(Coop),
    %% what nobody uses goes at once
    {ok, <<"3.0.0">>} = load(3),
    eventually(two_images, fun() -> mapped("grows") =:= 2 orelse mapped("grows") end),
    Started ! go,
    receive {told, go} -> ok after ?LIMIT -> ct:fail(not_told) end,
    eventually(one_image, fun() -> mapped("grows") =:= 1 orelse mapped("grows") end).

a_pinned_image_says_so(_) ->
    {ok, <<"1.0.0">>} = esp_plugin:load(?C_NODE, pins, file(pins, 1)),
    {ok, Coop} = coop:start_link(
        coop_flow:pipeline([coop:native(a, pins, length, #{})]), #{node => ?C_NODE}
    ),
    {ok, 3} = coop:call(Coop, <<"abc">>, ?LIMIT),
    {ok, <<"2.0.0">>} = esp_plugin:load(?C_NODE, pins, file(pins, 2)),
    ok = esp_plugin:upgrade(Coop, pins, []),
    {ok, 3} = coop:call(Coop, <<"abc">>, ?LIMIT),
    eventually(pinned, fun() ->
        [true || #{vsn := <<"1.0.0">>, pinned := true} <- esp_plugin:info(?C_NODE, pins)] =:= [true]
    end),
    stop(Coop).

purge_kills_who_runs_old_code(_) ->
    Coop = pipeline([stamp]),
    Again = start(template(native), #{restart => body, receiver => self()}),
    false = esp_plugin:purge(?C_NODE, grows),
    {ok, <<"2.0.0">>} = load(2),
    Refs = [monitor(process, P) || P <- [coop:head(Coop), node_of(Again, a)]],
    true = esp_plugin:purge(?C_NODE, grows),
    [killed, killed] = [down(Ref) || Ref <- Refs],
    eventually(restarted, fun() -> maps:get(restarts, coop:info(Again)) =:= 1 end),
    [<<"2.0.0">>] = versions(Again),
    false = esp_plugin:purge(?C_NODE, grows),
    eventually(old_image_gone, fun() -> esp_plugin:soft_purge(?C_NODE, grows) end),
    stop(Again).

an_unloaded_plugin_starts_nothing(_) ->
    Coop = pipeline([stamp]),
    true = esp_plugin:unload(?C_NODE, grows),
    false = esp_plugin:unload(?C_NODE, grows),
    {error, {bad_node, a, {no_plugin, grows}}} =
        coop:start_link(coop_flow:pipeline([native(a)]), #{node => ?C_NODE}),
    {error, {a, {no_plugin, grows}}} = esp_plugin:upgrade(Coop, grows, []),
    {ok, #{n := 1}} = coop:call(Coop, #{n => 1, by => []}, ?LIMIT),
    {error, {no_plugin, grows}} = esp_plugin:load(?C_NODE, grows),
    stop(Coop),
    eventually(unmapped, fun() -> mapped("grows") =:= 0 end),
    [] = esp_plugin:info(?C_NODE, grows).

the_next_c_node_has_what_was_loaded_last(_) ->
    {ok, <<"2.0.0">>} = load(2),
    esp_test_c_node:kill(?C_NODE),
    eventually(second_image, fun() ->
        case esp_plugin:info(?C_NODE, grows) of
            [#{vsn := <<"2.0.0">>}] -> true;
            %% the first one was loaded before, and goes by itself
            Other -> Other
        end
    end),
    {ok, <<"2.0.0">>} = esp_plugin:load(?C_NODE, grows).

bad_requests_are_errors(_) ->
    {error, {no_plugin, no_such}} = esp_plugin:load(?C_NODE, no_such),
    {error, {bad_name, grows}} = esp_plugin:load(?C_NODE, shrinks, file(grows, 1)),
    {error, {not_found, _}} = esp_plugin:load(?C_NODE, "/no/such.so"),
    {error, noconnection} = esp_plugin:upgrade(no_such_node, grows, []),
    {error, noconnection} = esp_plugin:info(no_such_node),
    ok = esp_plugin:upgrade(?C_NODE, no_such, []),
    Coop = pipeline([stamp]),
    ok = esp_plugin:upgrade(Coop, no_such, []),
    %% nobody is there to commit what was not prepared
    #{switches := [Switch]} = coop:info(Coop),
    {error, not_prepared} = coop_process:ask(Switch, commit_change, ?LIMIT),
    ok = coop_process:ask(Switch, abort_change, ?LIMIT),
    ok = coop_process:ask(coop:head(Coop), release, ?LIMIT),
    stop(Coop),
    {error, noproc} = esp_plugin:upgrade(Coop, grows, []),
    %% nonsense of strangers is not understood, and that is all
    Mixed = start(template(mixed), #{receiver => self()}),
    #{switches := Switches} = coop:info(Mixed),
    [
        Pid ! {'$coop', {self(), make_ref()}, Request}
     || Pid <- [coop:head(Mixed) | Switches] ++ [P || {_, P} <- nodes_of(Mixed)],
        Request <- [
            {changes, [a | b]},
            {changes, ["x", self()]},
            {prepare_change, x, y, z},
            {prepare_change, {[a | b], undefined, x}},
            {prepare_change, x},
            {let_go, x},
            {let_go, -1},
            {hold},
            release
        ]
    ],
    {ok, #{n := 1}} = coop:call(Mixed, #{n => 1, by => []}, ?LIMIT),
    stop(Mixed).
