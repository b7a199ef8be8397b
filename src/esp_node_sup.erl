%% A small supervisor round one owner. In a user's own supervisor the owner
%% would deadlock with a later child whose start waits for the C-node: that
%% supervisor is the one that waits, and so cannot restart the owner.
%%
%% It is registered, so that nobody starts a second owner of the same C-node
%% while the first is being restarted.
-module(esp_node_sup).

-behaviour(supervisor).

-export([start_link/2]).
-export([is_running/1]).
-export([init/1]).

-spec start_link(atom(), map()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) ->
    case esp_config:c_node(Opts#{name => Name}) of
        {ok, _} ->
            case supervisor:start_link({local, registered(Name)}, ?MODULE, {Name, Opts}) of
                {ok, Pid} -> {ok, Pid};
                {error, {shutdown, {failed_to_start_child, _, Reason}}} -> {error, Reason};
                {error, Reason} -> {error, Reason};
                ignore -> {error, ignore}
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Whether somebody's supervisor keeps a C-node of that name.
-spec is_running(atom()) -> boolean().
is_running(Name) ->
    is_pid(whereis(registered(Name))).

registered(Name) ->
    list_to_atom("esp_node_sup_" ++ atom_to_list(Name)).

-spec init({atom(), map()}) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({Name, Opts}) ->
    {ok, #{intensity := Intensity, period := Period, grace := Grace}} =
        esp_config:c_node(Opts#{name => Name}),
    Owner = #{
        id => Name,
        start => {esp_node, start_link, [Name, Opts]},
        %% the owner's own grace period has to fit
        shutdown => Grace + 3_000
    },
    {ok, {#{strategy => one_for_one, intensity => Intensity, period => Period}, [Owner]}}.
