%% Functions of plugins that other nodes call: include/esp/rpc.hpp.
-module(expose_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [take/1, down/1, eventually/2]).

-define(NAME, t_expose).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        values_go_in_and_come_out_by_the_signature,
        arguments_that_do_not_decode_are_function_clause,
        an_exception_is_an_error_with_its_type_and_text,
        exit_is_exit,
        a_function_may_block_its_fiber,
        a_function_that_waits_can_be_killed,
        many_run_at_once,
        functions_are_spawned_and_applied,
        exposing_later_is_refused,
        modules_are_there_as_modules,
        a_module_of_the_node_or_of_another_plugin_is_not_to_be_had,
        a_plugin_that_fails_to_load_leaves_nothing,
        a_plugin_loaded_again_changes_nothing,
        the_next_image_brings_its_own_functions,
        functions_are_there_again_after_a_restart
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?NAME)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

c_node() -> esp_node:node(?NAME).

call(M, F, A) -> rpc:call(c_node(), M, F, A).

values_go_in_and_come_out_by_the_signature(_) ->
    42 = call(geometry, area, [6, 7]),
    49 = call(geometry, area, [7]),
    #{x := 1.0, y := 2.0} = call(geometry, center, [[#{x => 0.0, y => 1.0}, #{x => 2.0, y => 3.0}]]),
    <<"bytes">> = call(words, last, ["text as bytes"]),
    undefined = call(words, last, [<<"text">>]),
    ok = call(acts, nothing, []),
    Any = [make_ref(), self(), #{a => [1.5 | b]}, <<1:3>>, fun lists:map/2, fun() -> ok end],
    Any = call(acts, same, [Any]),
    1 = erpc:call(c_node(), fun words:version/0).

arguments_that_do_not_decode_are_function_clause(_) ->
    [
        {error, {exception, function_clause, [{M, F, A, []}]}} = caught(M, F, A)
     || {M, F, A} <- [
            {geometry, area, [1, 2.0]},
            {geometry, area, [1 bsl 64, 2]},
            {geometry, area, [x]},
            {geometry, center, [[#{x => 0.0}]]},
            {geometry, center, [[#{x => 0.0, y => 1.0} | rest]]},
            {words, last, [atom]},
            {words, last, [[256]]},
            {acts, byte, [256]},
            {acts, byte, [-1]},
            {acts, nap, [infinity]}
        ]
    ],
    {badrpc, {'EXIT', {function_clause, [{geometry, area, [x, y], []}]}}} =
        call(geometry, area, [x, y]),
    [
        {error, {exception, undef, [{M, F, A, []}]}} = caught(M, F, A)
     || {M, F, A} <- [{geometry, area, []}, {geometry, area, [1, 2, 3]}, {geometry, volume, [1]}]
    ].

caught(M, F, A) ->
    try
        {value, erpc:call(c_node(), M, F, A)}
    catch
        Class:Reason -> {Class, Reason}
    end.

an_exception_is_an_error_with_its_type_and_text(_) ->
    {badrpc, {'EXIT', {{cpp_exception, <<"std::runtime_error">>, <<"too far">>}, [{acts, fail, _, []}]}}} =
        call(acts, fail, [<<"too far">>]),
    {error, {exception, {cpp_exception, <<"int">>, <<>>}, [{acts, throw_number, [], []}]}} =
        caught(acts, throw_number, []),
    {error, {exception, {cpp_exception, <<"std::range_error">>, _}, [{acts, not_a_number, [], []}]}} =
        caught(acts, not_a_number, []).

exit_is_exit(_) ->
    {exit, {exception, {why, not_}}} = caught(acts, exit, [{why, not_}]),
    {badrpc, {'EXIT', why}} = call(acts, exit, [why]),
    {badrpc, {'EXIT', why}} = rpc:block_call(c_node(), acts, exit, [why]),
    {_, Ref} = spawn_monitor(c_node(), acts, exit, [{shutdown, why}]),
    {shutdown, why} = down(Ref).

a_function_may_block_its_fiber(_) ->
    ok = call(acts, nap, [1]),
    Server = spawn(fun() ->
        receive
            {'$gen_call', From, Request} -> gen:reply(From, {got, Request})
        end
    end),
    {got, hello} = call(acts, call, [Server, hello]),
    %% it has gone
    no_answer = call(acts, call, [Server, hello]),
    Self = call(acts, self, []),
    true = node(Self) =:= c_node().

a_function_that_waits_can_be_killed(_) ->
    Id = erpc:send_request(c_node(), acts, hold, [self()]),
    [{holding, Pid}] = take(1),
    exit(Pid, boom),
    {exit, {signal, boom}} =
        try
            erpc:receive_response(Id)
        catch
            Class:Reason -> {Class, Reason}
        end.

many_run_at_once(_) ->
    Count = 500,
    Ids = [erpc:send_request(c_node(), acts, hold, [self()]) || _ <- lists:seq(1, Count)],
    Pids = [Pid || {holding, Pid} <- take(Count)],
    Count = length(lists:usort(Pids)),
    [Pid ! go || Pid <- Pids],
    [1 = erpc:receive_response(Id) || Id <- Ids],
    [] = esp_test_lib:mailbox().

functions_are_spawned_and_applied(_) ->
    Pid = spawn_link(c_node(), acts, hold, [self()]),
    [{holding, Pid}] = take(1),
    {initial_call, {acts, hold, 1}} = erpc:call(c_node(), erlang, process_info, [Pid, initial_call]),
    unlink(Pid),
    Ref = monitor(process, Pid),
    Pid ! go,
    normal = down(Ref),
    42 = call(erlang, apply, [geometry, area, [6, 7]]),
    {_, Fails} = spawn_monitor(c_node(), acts, fail, [<<"too far">>]),
    {{cpp_exception, _, <<"too far">>}, [{acts, fail, [<<"too far">>], []}]} = down(Fails).

exposing_later_is_refused(_) ->
    {error, {exception, {cpp_exception, <<"std::logic_error">>, _}, _}} = caught(acts, expose, []),
    {error, {exception, undef, _}} = caught(acts, new, []).

modules_are_there_as_modules(_) ->
    {module, geometry} = call(code, ensure_loaded, [geometry]),
    {error, nofile} = call(code, ensure_loaded, [innocent]),
    true = call(erlang, function_exported, [geometry, area, 2]),
    false = call(erlang, function_exported, [geometry, area, 3]).

a_module_of_the_node_or_of_another_plugin_is_not_to_be_had(_) ->
    {error, {already, Own}} = esp_node:load_plugin(?NAME, file("refused/usurps")),
    has(Own, "module erlang is the node's own"),
    {error, {already, Other}} = esp_node:load_plugin(?NAME, file("refused/clashes")),
    has(Other, "module words is plugin exposes's"),
    nothing_has_changed().

a_plugin_that_fails_to_load_leaves_nothing(_) ->
    {error, {refused, Twice}} = esp_node:load_plugin(?NAME, file("refused/repeats")),
    has(Twice, "innocent:first/1 twice"),
    {error, {refused, _}} = esp_node:load_plugin(?NAME, file("refused/stumbles")),
    nothing_has_changed().

nothing_has_changed() ->
    true = call(erlang, node, []) =:= c_node(),
    1 = call(words, version, []),
    {error, nofile} = call(code, ensure_loaded, [innocent]),
    {error, {no_plugin, usurps}} = esp_node:load_plugin(?NAME, usurps),
    %% a thread of its own clears up
    eventually(unmapped, fun() -> images(["usurps", "clashes", "repeats", "stumbles"]) =:= [] end).

has(Text, Part) ->
    string:find(Text, Part) =/= nomatch orelse ct:fail({no, Part, in, Text}).

file(Name) ->
    filename:join(filename:dirname(esp_test_lib:plugin()), Name ++ ".so").

%% How many images of these plugins are mapped, each with a first segment.
images(Names) ->
    {ok, Maps} = file:read_file("/proc/" ++ call(os, getpid, []) ++ "/maps"),
    [
        Line
     || Line <- string:lexemes(Maps, "\n"),
        Name <- Names,
        string:find(Line, ["memfd:", Name, ".so"]) =/= nomatch,
        string:find(Line, " 00000000 ") =/= nomatch
    ].

a_plugin_loaded_again_changes_nothing(_) ->
    ok = esp_node:load_plugin(?NAME, file("exposes")),
    1 = call(words, version, []),
    eventually(one_image, fun() -> length(images(["exposes"])) =:= 1 end).

the_next_image_brings_its_own_functions(_) ->
    Id = erpc:send_request(c_node(), acts, hold, [self()]),
    [{holding, Pid}] = take(1),
    ok = esp_node:load_plugin(?NAME, file("later/exposes")),
    2 = call(words, version, []),
    true = call(words, new, []),
    {error, {exception, undef, [{words, last, ["a"], []}]}} = caught(words, last, ["a"]),
    {error, {exception, undef, _}} = caught(acts, hold, [self()]),
    {error, nofile} = call(code, ensure_loaded, [acts]),
    %% the older one is there as long as it is used
    2 = length(images(["exposes"])),
    Pid ! go,
    1 = erpc:receive_response(Id),
    eventually(one_image, fun() -> length(images(["exposes"])) =:= 1 end),
    ok = esp_node:load_plugin(?NAME, file("exposes")),
    1 = call(words, version, []),
    {error, {exception, undef, _}} = caught(words, new, []).

functions_are_there_again_after_a_restart(_) ->
    esp_test_c_node:kill(?NAME),
    eventually(an_area, fun() -> call(geometry, area, [6, 7]) =:= 42 end).
